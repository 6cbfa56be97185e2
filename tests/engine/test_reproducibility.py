"""The same request gives the same bytes of pixels, whatever else happens before, beside or meanwhile."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.engine.jobs import model, picture, pixels, words

from sfumato.engine.material import Material
from sfumato.engine.pipeline import Picture, stream
from sfumato.events import StepDone

ANCESTRAL = {"sampler": "Euler a"}
BROWNIAN = {"sampler": "DPM++ 2M SDE", "scheduler": "Karras"}


@pytest.mark.parametrize("make", [words, picture])
@pytest.mark.parametrize("options", [ANCESTRAL, BROWNIAN, {"sampler": "DDIM", "eta": 0.5, "rng": "CPU"}])
def test_company_in_a_batch(make, options):
    """Every picture of a batch of three is the one that its seed gives alone, and in any batch of another shape."""
    alone = [pixels(make(seed=seed, **options))[0] for seed in (7, 8, 9)]
    assert len(set(alone)) == 3
    assert pixels(make(seed=7, batch_size=3, **options)) == alone
    assert pixels(make(seed=7, batch_count=3, **options)) == alone
    assert pixels(make(seed=8, batch_size=2, **options)) == alone[1:]


def test_variations_of_a_batch_share_the_seed():
    alone = [pixels(words(seed=7, subseed=subseed, subseed_strength=0.4))[0] for subseed in (20, 21)]
    assert pixels(words(seed=7, subseed=20, subseed_strength=0.4, batch_size=2)) == alone
    assert alone[0] != alone[1]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_after_a_cancelled_job(steps):
    before = pixels(words())
    job = stream(words(enable_hr=True, tiling=True, seed=1, batch_size=2), Material(model()))
    done = 0
    for item in job:
        done += isinstance(item, StepDone)
        if done > steps:
            break
    job.close()
    assert pixels(words()) == before


def test_after_other_jobs():
    before = pixels(words())
    others = [
        {"tiling": True},
        {"clip_skip": 2},
        {"noise_schedule": "Zero Terminal SNR"},
        {"sampler": "LCM"},
        {"emphasis": "No norm", "prompt": "(red:1.4) circle"},
        {"rng": "CPU", "eta_noise_seed_delta": 31337},
        {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Lanczos"},
        {"keep_steps": "strip", "preview": "full", "preview_every": 1},
    ]
    for changes in others:
        assert pixels(words(**changes))
        assert pixels(words()) == before, changes


@pytest.mark.parametrize("method", ["linear", "full"])
def test_being_watched(method):
    seen = []
    before = pixels(words(**ANCESTRAL))
    assert pixels(words(preview=method, preview_every=1, **ANCESTRAL), on_event=seen.append) == before
    assert pixels(words(keep_steps="animation", preview=method, **ANCESTRAL)) == before
    assert seen


def test_pictures_come_as_they_are_done():
    """Each picture is given away before the next one is begun."""
    items = list(stream(words(batch_size=2, batch_count=2), Material(model())))
    kinds = [type(item) for item in items]
    first = kinds.index(Picture)
    assert StepDone in kinds[:first]
    assert StepDone in kinds[first:]
    assert [item.index for item in items if isinstance(item, Picture)] == [0, 1, 2, 3]


PROGRAM = """
import hashlib
from tests.engine.jobs import pixels, words
print(hashlib.sha256(b"".join(pixels(words(batch_size=2, sampler="DPM++ SDE")))).hexdigest())
"""


def test_another_process():
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    here = pixels(words(batch_size=2, sampler="DPM++ SDE"))
    assert done.stdout.strip() == hashlib.sha256(b"".join(here)).hexdigest()
