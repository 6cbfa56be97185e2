"""Whole pictures against diffusers: the same weights, prompts and start latents, through its pipelines and ours.

The other side is loaded from the folder that our own export writes. Euler runs with diffusers' own numbers; where A1111, whose
definitions we keep, differs in the others, diffusers is told A1111's: fractional timesteps for DPM++ (it rounds them, which
costs random v-prediction weights down to 42 dB), and DDIM without the evaluation at timestep 1.
"""

import math
import os

import numpy as np
import pytest
import torch
from tests.parity.oracle import need_memory
from tests.pictures import gradient, png
from tests.tiny import SPECS, random_model

from sfumato import Img2Img, Txt2Img, generate
from sfumato.engine.checkpoint.load import load
from sfumato.engine.checkpoint.save import save
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT, NEGATIVE = "a red circle on a white background", "blurry, out of focus"
SIDE, STEPS, CHANGE_STEPS, STRENGTH = 64, 5, 10, 0.6
SAMPLERS = [("Euler", "Automatic"), ("DPM++ 2M", "Karras"), ("DDIM", "Automatic")]
FAMILIES = ["sd1", "sd2", "sdxl"]


class Fractional(diffusers.DPMSolverMultistepScheduler):
    """DPM-Solver++ that gives the network the timesteps of its levels as k-diffusion does, not rounded."""

    def set_timesteps(self, *args, **kwargs):
        super().set_timesteps(*args, **kwargs)
        table = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log().double().numpy()
        levels = self.sigmas[:-1].double().log().numpy()
        self.timesteps = torch.from_numpy(np.interp(levels, table, np.arange(len(table)))).float()


class OneUp(diffusers.DDIMScheduler):
    """DDIM that brings a picture one step further up than where it begins, as A1111 does."""

    def add_noise(self, original_samples, noise, timesteps):
        stride = self.config.num_train_timesteps // self.num_inference_steps
        return super().add_noise(original_samples, noise, timesteps + stride)


def scheduler_for(name, config):
    if name == "Euler":
        return diffusers.EulerDiscreteScheduler.from_config(config, timestep_spacing="linspace")
    if name == "DDIM":
        return OneUp.from_config(config, steps_offset=1, timestep_spacing="leading", set_alpha_to_one=False, clip_sample=False)
    return Fractional.from_config(config, use_karras_sigmas=True, final_sigmas_type="zero")


class Other:
    """The diffusers side of a model, from the folder that we export it to."""

    def __init__(self, model, folder):
        save(model, folder, layout="diffusers")
        stem = "StableDiffusionXL" if model.spec.family == "sdxl" else "StableDiffusion"
        # Checkers and watermarks are no part of the comparison; the first is not there, the second not installed.
        quiet = {} if model.spec.family == "sdxl" else {"requires_safety_checker": False}
        self.new = getattr(diffusers, f"{stem}Pipeline").from_pretrained(folder, local_files_only=True, **quiet)
        self.change = getattr(diffusers, f"{stem}Img2ImgPipeline")(**self.new.components, **quiet)
        self.config = self.new.scheduler.config
        assert self.config.prediction_type == {"eps": "epsilon", "v": "v_prediction"}[model.spec.prediction]

    def __call__(self, pipeline, sampler, evaluations, count, **arguments):
        """The pictures of `count` seeds, cut short after so many evaluations."""
        pipeline.scheduler = scheduler_for(sampler, self.config)
        pipeline.set_progress_bar_config(disable=True)

        def stop(pipeline, step, timestep, tensors):
            pipeline._interrupt = step + 1 >= evaluations
            return tensors

        prompts = {"prompt": [PROMPT] * count, "negative_prompt": [NEGATIVE] * count, "guidance_scale": 7.0}
        return pipeline(**prompts, callback_on_step_end=stop, **arguments).images

    def latents(self, picture):
        """The posterior mean of a picture, scaled."""
        pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        return self.new.vae.encode(pixels).latent_dist.mean * self.new.vae.config.scaling_factor


@pytest.fixture(scope="module", params=FAMILIES)
def both(request, tmp_path_factory):
    model = random_model(SPECS[request.param], int(os.environ.get("SFUMATO_PARITY_SEED", "0")))
    return model, Other(model, tmp_path_factory.mktemp(request.param))


def psnr(ours, theirs):
    """Decibels between two pictures of 256 levels; they must show something."""
    a, b = (np.asarray(each, dtype=np.float64) for each in (ours, theirs))
    assert a.shape == b.shape
    assert b.std() > 20
    assert np.mean((b > 0) & (b < 255)) > 0.2
    error = float(np.square(a - b).mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def generators(seed, count=1):
    return [torch.Generator().manual_seed(seed + row) for row in range(count)]


def common(sampler, scheduler, seed):
    words = {"prompt": PROMPT, "negative_prompt": NEGATIVE, "cfg_scale": 7.0}
    return {**words, "seed": seed, "rng": "CPU", "sampler": sampler, "scheduler": scheduler}


def new(model, sampler, scheduler, seed, *, side=SIDE, count=1):
    # DPM-Solver of diffusers starts from unit variance in the preserving scale: the noise multiplier of SGM.
    request = Txt2Img(
        **common(sampler, scheduler, seed),
        steps=STEPS,
        width=side,
        height=side,
        batch_size=count,
        sgm_noise_multiplier=sampler.startswith("DPM++"),
    )
    return [picture.image for picture in generate(request, model)]


def new_of(other, sampler, seed, *, side=SIDE, count=1):
    latents = [torch.randn(4, side // 8, side // 8, generator=generator) for generator in generators(seed, count)]
    evaluations = STEPS - (sampler == "DDIM")
    shape = {"latents": torch.stack(latents), "height": side, "width": side}
    return other(other.new, sampler, evaluations, count, num_inference_steps=STEPS, **shape)


@pytest.mark.parametrize(("sampler", "scheduler"), SAMPLERS)
def test_new_pictures(both, sampler, scheduler, seed):
    model, other = both
    ours = new(model, sampler, scheduler, seed, count=2)
    theirs = new_of(other, sampler, seed, count=2)
    assert min(map(psnr, ours, theirs)) >= 60
    assert psnr(ours[0], theirs[1]) < 30  # pictures that all look the same would be no test


@pytest.mark.parametrize(("sampler", "scheduler"), SAMPLERS)
def test_changed_pictures(both, sampler, scheduler, seed):
    model, other = both
    source = gradient(SIDE, SIDE)
    request = Img2Img(
        **common(sampler, scheduler, seed),
        steps=CHANGE_STEPS,
        init_images=(png(source),),
        denoising_strength=STRENGTH,
        width=SIDE,
        height=SIDE,
        batch_size=2,
    )
    ours = [picture.image for picture in generate(request, model)]
    # A1111 makes one step more than the strength's share of them.
    made = int(STRENGTH * CHANGE_STEPS) + (sampler != "DDIM")
    theirs = other(
        other.change,
        sampler,
        made - (sampler == "DDIM"),
        2,
        image=other.latents(source).repeat(2, 1, 1, 1),
        strength=made / CHANGE_STEPS,
        num_inference_steps=CHANGE_STEPS,
        generator=generators(seed, 2),
    )
    assert min(map(psnr, ours, theirs)) >= 55


def test_our_files_give_the_same_pictures(both, seed, tmp_path):
    """Single file and folder, there and back: the same bits of weights, so the same bytes of pixels."""
    model, other = both
    save(model, tmp_path / "model.safetensors")
    save(model, tmp_path / "folder", layout="diffusers")
    single = load(tmp_path / "model.safetensors")
    assert single.spec == model.spec
    assert all(torch.equal(value, single.state_dict()[name]) for name, value in model.state_dict().items())
    (picture,) = new(single, "Euler", "Automatic", seed)
    assert new(load(tmp_path / "folder"), "Euler", "Automatic", seed)[0].tobytes() == picture.tobytes()
    assert psnr(picture, new_of(other, "Euler", seed)[0]) >= 60


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_full_width(seed, tmp_path):
    """SD1.5 as it is, at 256 pixels; one model for all samplers, as making it is half of the work."""
    need_memory(12)
    encoder = TextEncoderSpec(TextConfig(), "cond_stage_model.transformer.")
    model = random_model(ModelSpec("sd1", UNetConfig(), VAEConfig(), (encoder,), title="Stable Diffusion 1"), seed)
    other = Other(model, tmp_path)
    for sampler, scheduler in SAMPLERS:
        ours, theirs = new(model, sampler, scheduler, seed, side=256), new_of(other, sampler, seed, side=256)
        assert psnr(ours[0], theirs[0]) >= 60, sampler
