"""Loading: every spelling of a single file gives the same model; what is missing is named; memory stays in bounds."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file
from tests.engine.checkpoint.small_specs import SPECS, sd1, sd2, sdxl
from tests.tiny import random_model

from sfumato.engine.checkpoint.hints import Hints
from sfumato.engine.checkpoint.load import load, load_vae
from sfumato.engine.checkpoint.save import convert, save, save_vae
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.errors import CorruptFile, InvalidRequest, NotFound, OutOfMemory, Unsupported

SD1 = sd1()
SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture(scope="module")
def model():
    return random_model(SD1)


@pytest.fixture
def state(model):
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def write(tensors, path):
    """Save by the extension: safetensors, a zip checkpoint, or torch's older layout (.pt)."""
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    else:
        torch.save({"state_dict": tensors, "global_step": 7}, path, _use_new_zipfile_serialization=path.suffix == ".ckpt")
    return path


def same(model, tensors):
    state = model.state_dict()
    assert state.keys() == tensors.keys()
    for name, value in tensors.items():
        assert torch.equal(state[name], value.to(state[name].dtype)), name


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt", ".pt"])
def test_containers(state, suffix, tmp_path):
    loaded = load(write(state, tmp_path / f"model{suffix}"))
    same(loaded, state)
    assert loaded.spec == SD1
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert not any(value.is_meta for value in [*loaded.parameters(), *loaded.buffers()])


def test_weights_lie_where_they_compute_fast(state, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    for value in load(path).parameters():
        assert value.data_ptr() % 64 == 0
        if value.ndim == 4:
            assert value.is_contiguous(memory_format=torch.channels_last)
    assert all(value.is_contiguous() for value in load(path, channels_last=False).parameters())


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64])
def test_storage_types(state, stored, tmp_path):
    kept = {name: value.to(stored) for name, value in state.items()}
    same(load(write(kept, tmp_path / "model.safetensors")), {name: value.float() for name, value in kept.items()})


def test_other_dtypes_in_memory(state, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    assert {value.dtype for value in load(path, dtype=torch.bfloat16).parameters()} == {torch.bfloat16}


def renamed(tensors, old, new):
    return {new + name[len(old) :] if name.startswith(old) else name: value for name, value in tensors.items()}


def test_odd_spellings(state, tmp_path):
    clip = "cond_stage_model.transformer."
    spellings = {
        "without text_model": renamed(state, f"{clip}text_model.", clip),
        "float position ids": state | {f"{clip}text_model.embeddings.position_ids": torch.arange(77.0)[None]},
        "sgm": renamed(state, clip, "conditioner.embedders.0.transformer."),
        "bare unet": renamed(state, "model.diffusion_model.", ""),
        "half a prefix": renamed(state, "model.diffusion_model.", "diffusion_model."),
        "leftovers": state
        | {"loss.logvar": torch.zeros(1), "betas": torch.zeros(9), "model_ema.decay": torch.ones(()), "x.y": torch.ones(2)},
    }
    for name, tensors in spellings.items():
        loaded = load(write(tensors, tmp_path / f"{name}.safetensors"))
        same(loaded, state)
        assert loaded.spec == SD1, name


def test_sd2_in_the_layout_of_sgm(tmp_path):
    model = random_model(sd2())
    tensors = renamed(model.state_dict(), "cond_stage_model.model.", "conditioner.embedders.0.model.")
    tensors.pop("conditioner.embedders.0.model.logit_scale")  # a file may lack it
    loaded = load(write(tensors, tmp_path / "turbo.safetensors"))
    assert loaded.spec == sd2()
    assert torch.equal(loaded.unet.out[2].weight, model.unet.out[2].weight)


def test_averaged_weights(state, tmp_path):
    unet = {name: value for name, value in state.items() if name.startswith("model.")}
    averaged = {"model_ema." + name.removeprefix("model.").replace(".", ""): value + 1 for name, value in unet.items()}
    path = write(state | averaged | {"model_ema.num_updates": torch.tensor(3)}, tmp_path / "both.ckpt")
    same(load(path), state)
    same(load(path, ema=True), state | {name: value + 1 for name, value in unet.items()})
    path.with_suffix(".yaml").write_text("model:\n  params:\n    use_ema: true\n")
    same(load(path), state | {name: value + 1 for name, value in unet.items()})
    same(load(path, ema=False), state)
    with pytest.raises(NotFound, match="no averaged"):
        load(write(state, tmp_path / "plain.ckpt"), ema=True)


def test_settings_go_before_what_is_found(state, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    assert load(path, prediction="v").spec.prediction == "v"
    assert load(path, hints=Hints(size=64, zero_terminal_snr=True)).spec.size == 64
    path.with_suffix(".yaml").write_text("model:\n  params:\n    parameterization: v\n")
    assert load(path).spec.prediction == "v"
    assert load(path, prediction="eps").spec.prediction == "eps"


def test_the_name_of_a_file_means_nothing(state, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    loaded = load(path.rename(tmp_path / "sdxl-v-prediction-inpainting.ckpt"))
    assert loaded.spec == SD1


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_of_its_own(state, prefix, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    vae = {
        prefix + name.removeprefix("first_stage_model."): value + 1 for name, value in state.items() if name.startswith("first")
    }
    alone = write(vae | {"loss.logvar": torch.zeros(1)}, tmp_path / "a.vae.pt")
    loaded = load(path, vae=alone)
    expected = {name: value + 1 if name.startswith("first") else value for name, value in state.items()}
    same(loaded, expected)
    without = {name: value for name, value in state.items() if not name.startswith("first")}
    same(load(write(without, tmp_path / "no vae.safetensors"), vae=alone), expected)
    same(
        load_vae(alone),
        {name.removeprefix("first_stage_model."): value for name, value in expected.items() if name.startswith("first")},
    )
    same(
        load_vae(path),
        {name.removeprefix("first_stage_model."): value for name, value in state.items() if name.startswith("first")},
    )


def test_a_vae_brings_its_own_groups(state, tmp_path):
    other = random_model(replace(SD1, vae=replace(SD1.vae, norm_num_groups=8)))
    save_vae(other.vae, tmp_path / "vae.safetensors")
    loaded = load(write(state, tmp_path / "model.safetensors"), vae=tmp_path / "vae.safetensors")
    assert loaded.spec.vae == other.spec.vae
    assert convert(tmp_path / "model.safetensors", tmp_path / "b.safetensors", vae=tmp_path / "vae.safetensors") == loaded.spec
    same(load(tmp_path / "b.safetensors"), loaded.state_dict())


def test_oddities_are_logged(state, tmp_path, caplog):
    write(state | {"junk.weight": torch.ones(3)}, tmp_path / "model.safetensors")
    with caplog.at_level("INFO"):
        load(tmp_path / "model.safetensors")
    assert "1 tensors are not used: junk.weight" in caplog.text


def test_text_encoders_of_another_file(state, tmp_path):
    path = write(state, tmp_path / "model.safetensors")
    without = {name: value for name, value in state.items() if not name.startswith("cond_stage")}
    same(load(write(without, tmp_path / "b.safetensors"), text=path), state)


def test_what_is_missing_or_misshapen_is_named(state, tmp_path):
    gone = "model.diffusion_model.middle_block.1.norm.weight"
    cut = {name: value for name, value in state.items() if name != gone}
    with pytest.raises(CorruptFile, match=r"lacks 1 tensors: model\.diffusion_model\.middle_block\.1\.norm\.weight"):
        load(write(cut, tmp_path / "cut.safetensors"))
    with pytest.raises(CorruptFile, match=r"norm\.weight is \[3\] instead of \[128\]"):
        load(write(state | {gone: torch.ones(3)}, tmp_path / "lie.safetensors"))
    with pytest.raises(CorruptFile, match="no autoencoder"):
        load(write({name: value for name, value in state.items() if "first_stage" not in name}, tmp_path / "no.safetensors"))
    with pytest.raises(CorruptFile):
        load_vae(write({"a": torch.ones(1)}, tmp_path / "no vae.pt"))
    with pytest.raises(NotFound):
        load(tmp_path / "nothing.safetensors")
    with pytest.raises(NotFound, match="not a diffusers model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight", (64,), "wrong rank"),
        ("model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight", (), "wrong rank"),
        ("model.diffusion_model.input_blocks.0.0.weight", (0, 4, 3, 3), "is empty"),
        ("first_stage_model.encoder.conv_in.weight", (0, 3, 3, 3), "is empty"),
    ],
)
def test_shapes_that_no_model_has_are_named(state, name, shape, message, tmp_path):
    assert name in state
    with pytest.raises(CorruptFile, match=message):
        load(write(state | {name: torch.ones(shape)}, tmp_path / "odd.ckpt"))


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (Hints(norm_num_groups=7), "sizes do not go together"),
        (Hints(vae_norm_num_groups=7), "sizes do not go together"),
        (Hints(text_skip=(99,)), "99 layers from its end and has 2"),
    ],
)
def test_facts_that_contradict_the_shapes_are_explained(state, hints, message, tmp_path):
    with pytest.raises(CorruptFile, match=message):
        load(write(state, tmp_path / "model.ckpt"), hints=hints)


def test_too_little_memory_is_found_before_reading(state, tmp_path, monkeypatch):
    path = write(state, tmp_path / "model.safetensors")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 20, "total": 1 << 40})())
    with pytest.raises(OutOfMemory, match="smaller dtype"):
        load(path)


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SPECS)
def test_a_saved_model_comes_back_bit_equal(name, tmp_path):
    model = random_model(SPECS[name])
    save(model, tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    same(back, model.state_dict())
    assert back.spec == model.spec
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_shapes_do_not_tell_is_saved(tmp_path):
    spec = replace(
        SD1,
        unet=replace(SD1.unet, num_heads=2, norm_num_groups=4),
        vae=replace(SD1.vae, norm_num_groups=8, scale_factor=0.3),
        text=(replace(SD1.text[0], skip=2, config=replace(SD1.text[0].config, heads=8, activation="gelu")),),
        prediction="v",
        zero_terminal_snr=True,
        linear_start=0.001,
        linear_end=0.02,
        timesteps=500,
        size=160,
    )
    save(random_model(spec), tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").spec == spec


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_smaller_types(model, state, dtype, tmp_path):
    save(model, tmp_path / "a.safetensors", dtype=dtype)
    same(load(tmp_path / "a.safetensors"), {name: value.to(dtype).float() for name, value in state.items()})


def test_eight_bits_clamp_rather_than_overflow(tmp_path):
    model = random_model(SD1)
    model.unet.out[2].bias[0] = 1e6
    save(model, tmp_path / "a.safetensors", dtype=torch.float8_e4m3fn)
    assert load(tmp_path / "a.safetensors").unet.out[2].bias[0] == 448


def test_convert_keeps_tensors_and_metadata(state, tmp_path):
    save_file(state, tmp_path / "a.safetensors", metadata={"modelspec.title": "mine", "ss_note": "x", "sfumato.num_heads": "4"})
    spec = convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert spec.unet.num_heads == 4
    loaded = load(tmp_path / "b.safetensors")
    same(loaded, state)
    assert loaded.spec == spec
    (tmp_path / "link.safetensors").symlink_to(tmp_path / "a.safetensors")
    with pytest.raises(InvalidRequest, match="same"):
        convert(tmp_path / "a.safetensors", tmp_path / "link.safetensors")
    with pytest.raises(InvalidRequest, match="same"):
        convert(tmp_path / "a.safetensors", tmp_path / "a.safetensors")
    with pytest.raises(NotFound):
        convert(tmp_path / "a.safetensors", tmp_path / "no folder" / "b.safetensors")


def test_convert_from_a_pickle_to_half(state, tmp_path):
    convert(write(state, tmp_path / "a.ckpt"), tmp_path / "b.safetensors", dtype=torch.float16)
    same(load(tmp_path / "b.safetensors"), {name: value.half().float() for name, value in state.items()})


def test_a_vae_is_saved_alone(model, tmp_path):
    save_vae(model.vae, tmp_path / "vae.safetensors")
    same(load_vae(tmp_path / "vae.safetensors", scale_factor=9.0), model.vae.state_dict())
    assert load_vae(tmp_path / "vae.safetensors", scale_factor=9.0).config == SD1.vae


def test_a_variant_without_a_pipeline_is_refused(tmp_path):
    model = random_model(SPECS["sd2-depth"])
    with pytest.raises(Unsupported, match="single file"):
        save(model, tmp_path / "folder", layout="diffusers")


# --- memory -----------------------------------------------------------------------------------------------------------

PEAK = """
import resource, sys
from sfumato.engine.checkpoint.load import load
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load(sys.argv[1])
size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size)
"""


CONVERT = """
import resource, sys
from pathlib import Path
from sfumato.engine.checkpoint.save import convert
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[1], sys.argv[1] + ".out")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / Path(sys.argv[1]).stat().st_size)
"""


def measured(code, path):
    """The figure that `code` prints, run in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", code, path], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("stored", [torch.float32, torch.float16])
def test_peak_memory_is_that_of_the_weights(stored, tmp_path):
    spec = sdxl(unet=replace(sdxl().unet, model_channels=128))
    spec = replace(spec, unet=replace(spec.unet, channel_mult=(1, 8)))
    with torch.device("meta"):
        empty = DiffusionModel(spec)
    size = sum(value.numel() for value in empty.state_dict().values()) * 4
    assert size > 300 << 20
    save_file(
        {name: torch.zeros(value.shape, dtype=stored) for name, value in empty.state_dict().items()}, tmp_path / "m.safetensors"
    )
    assert measured(PEAK, tmp_path / "m.safetensors") <= 1.15
    if stored is torch.float32:
        assert measured(CONVERT, tmp_path / "m.safetensors") <= 0.6  # the largest tensor, and what becomes of it
