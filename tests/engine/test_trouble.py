"""When a job is stopped or fails: a clear word, nothing left behind, and the next job is as good as new."""

import gc
import threading
import weakref

import pytest
import torch
from tests.engine.jobs import SIDE, model, picture, pixels, state, unet_rows, words
from tests.tiny import random_model

from sfumato import generate
from sfumato.engine.autoencode import decode
from sfumato.engine.material import Material
from sfumato.engine.memory import least_memory
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.engine.pipeline import stream
from sfumato.errors import Cancelled, InvalidRequest, NotANumber, NotFound, OutOfMemory, Unsupported
from sfumato.events import Finished, StepDone

WHOLE = {"enable_hr": True, "hr_scale": 1.25, "tiling": True, "preview": "linear", "preview_every": 1, "keep_steps": "strip"}


@pytest.fixture
def untouched():
    """The model is, afterwards, as it was; no thread was left."""
    threads, before = set(threading.enumerate()), state(model())
    reference = pixels(words())
    yield
    assert state(model()) == before
    assert set(threading.enumerate()) == threads
    assert pixels(words()) == reference


def test_cancel_at_every_event(untouched):
    request = words(**WHOLE)
    total = len(list(stream(request, Material(model()))))
    assert total > 10
    for stop in range(1, total):
        job = stream(request, Material(model()))
        for _ in range(stop):
            next(job)
        job.close()


def test_cancel_between_steps_of_a_change(untouched):
    for stop in (1, 2):
        seen = 0

        def told(event, stop=stop):
            nonlocal seen
            seen += isinstance(event, StepDone)
            if seen == stop:
                raise Cancelled("Enough.")

        with pytest.raises(Cancelled):
            generate(picture(batch_size=2), model(), on_event=told)
        assert seen == stop


def test_nothing_is_kept_of_a_cancelled_job():
    job = stream(words(**WHOLE), Material(model()))
    kept = []
    handle = model().unet.register_forward_hook(lambda module, arguments, output: kept.append(weakref.ref(output)))
    while len(kept) < 2:
        next(job)
    handle.remove()
    job.close()
    del job
    gc.collect()
    assert all(reference() is None for reference in kept)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_runs_out(untouched, step, error):
    calls = 0

    def full(module, arguments):
        nonlocal calls
        calls += 1
        if calls == step:
            raise error

    handle = model().unet.register_forward_pre_hook(full)
    try:
        with pytest.raises(OutOfMemory, match="80x80") as caught:
            pixels(words(**WHOLE, batch_size=2))
    finally:
        handle.remove()
    assert "--batch-size 1" in caught.value.advice
    assert "hires scale" in caught.value.advice
    assert "--lowvram" in caught.value.advice


def test_memory_runs_out_while_decoding(untouched, monkeypatch):
    def full(vae, latents):
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 17179869184 bytes.")

    monkeypatch.setattr(AutoencoderKL, "decode", full)
    with pytest.raises(OutOfMemory, match="64x64") as caught:
        pixels(words())
    assert "smaller size" in caught.value.advice
    monkeypatch.undo()


@pytest.mark.parametrize(
    "request_",
    [words(width=1024, height=2048), words(enable_hr=True, hr_scale=16.0, width=128, height=64), picture(scale_by=16.0)],
    ids=lambda request: f"{type(request).__name__} {request.width}",
)
def test_what_cannot_fit_is_refused_before_the_work(untouched, monkeypatch, request_):
    """The system would end the process rather than let an allocation fail."""
    monkeypatch.setattr("sfumato.engine.memory.free_memory", lambda device: 4 << 20)
    with unet_rows(model()) as rows, pytest.raises(OutOfMemory, match=r"at least 0\.\d+ GiB") as caught:
        pixels(request_)
    assert rows == []
    assert "smaller" in caught.value.advice


def test_the_least_memory():
    """What the decoder waits for is all in memory at once: the outputs of every block of the encoder."""
    sizes = []
    handles = [block.register_forward_hook(lambda *call: sizes.append(call[2].nbytes)) for block in model().unet.input_blocks]
    pixels(words(steps=1, sampler="Euler", cfg_scale=1))
    for handle in handles:
        handle.remove()
    assert sum(sizes) == least_memory(model().spec, SIDE, SIDE)


def test_other_errors_keep_their_name(untouched, monkeypatch):
    def broken(vae, latents):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(AutoencoderKL, "decode", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        pixels(words())
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("model.diffusion_model.out.2.bias", "UNet"),
        ("first_stage_model.decoder.conv_in.bias", "VAE"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.bias", "text encoder"),
    ],
)
def test_damaged_weights(part, said):
    damaged = random_model()
    with torch.no_grad():
        damaged.get_parameter(part).fill_(float("nan"))
    with pytest.raises(NotANumber, match=said) as caught:
        pixels(words(), damaged)
    assert caught.value.advice
    assert "--no-half-vae" not in caught.value.advice  # it is taken, and has no effect


def test_damaged_encoder():
    damaged = random_model()
    with torch.no_grad():
        damaged.vae.encoder.conv_in.bias.fill_(float("inf"))
    with pytest.raises(NotANumber, match="VAE"):
        pixels(picture(), damaged)


@pytest.mark.parametrize("ever", [True, False])
def test_a_half_precision_autoencoder_that_overflows_gets_another_try(monkeypatch, ever):
    def overflowing(vae, latents):
        good = ever and vae.dtype == latents.dtype == torch.float32
        return torch.full((1, 3, 64, 64), 0.5 if good else float("inf"), dtype=latents.dtype)

    monkeypatch.setattr(AutoencoderKL, "decode", overflowing)
    vae = random_model().vae.half()
    if ever:
        assert (decode(vae, torch.ones(1, 4, 8, 8)) == 0.5).all()
    else:
        with pytest.raises(NotANumber, match="VAE"):
            decode(vae, torch.ones(1, 4, 8, 8))
    assert vae.dtype == torch.float16


@pytest.mark.parametrize(
    ("request_", "kind", "said"),
    [
        (picture(init_images=()), InvalidRequest, "source picture"),
        (picture(init_images=("sha256:" + "0" * 64,)), NotFound, "hash"),
        (picture(init_images=(b"GIF89a but no more",)), Unsupported, "picture"),
        (picture(denoising_strength=0.0, fix_steps=True), InvalidRequest, "strength"),
        (picture(mask=b"x"), Unsupported, "mask"),
        (words(vae_decoder="TAESD"), InvalidRequest, "TAESD"),
        (words(refiner_checkpoint="other", refiner_switch_at=0.1), NotFound, "other"),
        (words(prompt=" AND ".join("abcdefghijklmnopqrstuvwxyz" * 60)), InvalidRequest, "AND"),
        (words(steps=1, sampler="DDIM"), InvalidRequest, "2 steps"),
        (words(sigma_min=20.0, scheduler="Karras"), InvalidRequest, "sigma"),
    ],
    ids=lambda value: None,
)
def test_requests_that_cannot_be(untouched, request_, kind, said):
    with pytest.raises(kind, match=said) as caught:
        pixels(request_)
    assert caught.value.advice


def test_strength_of_nothing_changes_little():
    """A1111 makes one step even then."""
    events = []
    generate(picture(denoising_strength=0.0, sampler="Euler"), model(), on_event=events.append)
    assert sum(isinstance(event, StepDone) for event in events) == 1
    assert isinstance(events[-1], Finished)
