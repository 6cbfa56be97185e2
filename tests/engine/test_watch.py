"""What is told and shown of a job while it runs."""

import io

import numpy as np
import pytest
from PIL import Image
from tests.engine.jobs import SIDE, model, picture, words

from sfumato import generate
from sfumato.engine.material import Material
from sfumato.engine.models.taesd import TinyDecoder, TinyEncoder
from sfumato.engine.pipeline import Picture, stream
from sfumato.engine.sampling.samplers import samplers
from sfumato.events import Event, Finished, ImageDone, Preview, Progress, Started, StepDone, Warned, fold


def events_of(request, material=None):
    return [item for item in stream(request, material or Material(model())) if isinstance(item, Event)]


JOBS = [
    words(batch_size=3, batch_count=2),
    words(sampler="Heun", enable_hr=True, hr_scale=1.25, hr_sampler="DPM++ SDE", hr_second_pass_steps=4),
    words(sampler="DPM fast", steps=7),
    words(sampler="UniPC", steps=4),
    words(sampler="PLMS", steps=4, batch_size=2),
    words(sampler="DPM2 a", discard_penultimate_sigma=True),
    words(sampler="Restart", steps=9),
    picture(batch_size=2),
    picture(sampler="DDIM", steps=8),
    picture(sampler="UniPC", steps=8, fix_steps=True),
    picture(sampler="DPM fast", steps=9),
    picture(sampler="DPM++ 2S a", fix_steps=True, denoising_strength=0.3),
]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: f"{type(job).__name__} {job.sampler}")
def test_progress(job):
    events = events_of(job)
    fractions = []
    progress = Progress()
    for event in events:
        progress = fold(progress, event)
        fractions.append(progress.fraction)
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert progress.phase == "done"
    assert progress.images == progress.images_done == job.images
    assert progress.steps == progress.steps_done
    (started,) = (event for event in events if isinstance(event, Started))
    assert started.steps == sum(event.weight for event in events if isinstance(event, StepDone))
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("sampler", list(samplers))
def test_steps_are_counted_to_their_end(sampler):
    if sampler == "DPM adaptive":
        pytest.skip("decides its steps by itself")
    steps = [event for event in events_of(words(sampler=sampler, steps=5)) if isinstance(event, StepDone)]
    assert [event.step for event in steps] == list(range(1, steps[-1].steps + 1))
    sigmas = [event.sigma for event in steps]
    assert sigmas[-1] < 0.1
    if sampler != "Restart":
        assert sigmas == sorted(sigmas, reverse=True)


def test_pictures_are_announced():
    done = [event for event in events_of(words(batch_size=2, seed=40)) if isinstance(event, ImageDone)]
    assert [(event.image, event.seed) for event in done] == [(0, 40), (1, 41)]


@pytest.mark.parametrize(("every", "expected"), [(1, 6), (2, 3), (4, 1), (7, 0)])
def test_previews_come_in_time(every, expected):
    events = events_of(words(steps=6, preview="linear", preview_every=every))
    previews = [index for index, event in enumerate(events) if isinstance(event, Preview)]
    assert len(previews) == expected
    for index in previews:
        before = events[index - 1]
        assert isinstance(before, StepDone)
        assert before.step % every == 0


@pytest.mark.parametrize("method", ["linear", "full", "taesd"])
def test_previews_are_pictures(method):
    taesd = (TinyEncoder(channels=8).eval(), TinyDecoder(channels=8).eval())
    material = Material(model(), taesd=taesd)
    events = events_of(words(batch_size=2, width=SIDE * 2, preview=method, preview_every=3), material)
    assert not [event for event in events if isinstance(event, Warned)]
    shown = [event for event in events if isinstance(event, Preview)]
    assert sorted(event.image for event in shown) == [0, 1]
    for event in shown:
        image = Image.open(io.BytesIO(event.data))
        assert (event.mime, image.format, image.size) == ("image/jpeg", "JPEG", (SIDE * 2, SIDE))


def test_large_previews_are_made_small(monkeypatch):
    monkeypatch.setattr("sfumato.engine.watch.PREVIEW_SIDE", 48)
    shown = events_of(words(width=128, height=64, steps=2, preview="linear", preview_every=2))
    (preview,) = (event for event in shown if isinstance(event, Preview))
    assert Image.open(io.BytesIO(preview.data)).size == (48, 24)


def test_a_missing_decoder_is_said_once():
    events = events_of(words(preview="taesd", preview_every=1, batch_size=2))
    assert sum("TAESD" in event.message for event in events if isinstance(event, Warned)) == 1
    assert sum(isinstance(event, Preview) for event in events) == 6


def test_the_last_full_preview_is_the_picture():
    items = list(stream(words(preview="full", preview_every=3, sampler="Euler"), Material(model())))
    (preview,) = (item for item in items if isinstance(item, Preview))
    (made,) = (item for item in items if isinstance(item, Picture))
    # JPEG and random texture are no friends: compared at an eighth of the size.
    small = [np.asarray(each.resize((8, 8)), dtype=float) for each in (Image.open(io.BytesIO(preview.data)), made.image)]
    assert np.abs(small[0] - small[1]).mean() < 4


@pytest.mark.parametrize("make", [words, picture])
def test_every_step_is_kept(make):
    made = generate(make(steps=5, keep_steps="strip", batch_size=2, sampler="Euler"), model())
    steps = 5 if make is words else 4
    for each in made:
        assert len(each.steps) == steps
        assert {frame.size for frame in each.steps} == {(SIDE, SIDE)}
    assert made[0].steps[0].tobytes() != made[1].steps[0].tobytes()


def test_steps_of_both_passes_are_kept():
    (made,) = generate(words(enable_hr=True, hr_scale=1.25, keep_steps="animation", batch_size=1), model())
    assert [frame.width for frame in made.steps] == [SIDE] * 3 + [80] * 3
