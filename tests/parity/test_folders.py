"""Folders that we write load in diffusers, folders that diffusers writes load here, and both compute the same."""

import copy
from dataclasses import replace

import pytest
import torch
from tests.parity.oracle import noise, randomise

from sfumato.engine.checkpoint.family import families
from sfumato.engine.checkpoint.load import load, load_vae
from sfumato.engine.checkpoint.save import convert, save
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel

diffusers = pytest.importorskip("diffusers")

VOCABULARY = 49408
CLIP = TextConfig(width=64, layers=3, heads=4, mlp_width=96)
OPEN = TextConfig("open_clip", VOCABULARY, 64, 3, 2, 96, 77, "gelu", 64, False)
VAE = VAEConfig(ch=32, ch_mult=(1, 2), num_res_blocks=1, norm_num_groups=16)
UNET = UNetConfig(
    model_channels=32,
    channel_mult=(1, 2),
    num_res_blocks=(1, 1),
    transformer_depth=(1, 0),
    transformer_depth_output=(0, 0, 1, 1),
    context_dim=64,
    num_heads=4,
    norm_num_groups=16,
)
LINEAR = {"num_heads": None, "head_dim": 16, "use_linear_projection": True}
XL = replace(UNET, **LINEAR, transformer_depth=(0, 2), transformer_depth_middle=2, transformer_depth_output=(2, 2, 0, 0))


def text(family, *configs):
    rows = families[family].encoders
    return tuple(
        TextEncoderSpec(config, row.prefix, row.skip, row.final_norm, row.pooled, row.skippable)
        for config, row in zip(configs, rows, strict=True)
    )


def sdxl(unet, configs, family, adm):
    return ModelSpec(
        family, unet, replace(VAE, scale_factor=0.13025), text(family, *configs), size=1024, adm=adm, title=families[family].title
    )


SPECS = {
    "sd1": ModelSpec("sd1", UNET, VAE, text("sd1", CLIP), title="Stable Diffusion 1"),
    "sd1-inpaint": ModelSpec(
        "sd1", replace(UNET, in_channels=9), VAE, text("sd1", CLIP), variant="inpaint", title="Stable Diffusion 1 inpaint"
    ),
    "sd2-v": ModelSpec(
        "sd2", replace(UNET, **LINEAR), VAE, text("sd2", OPEN), prediction="v", size=768, title="Stable Diffusion 2"
    ),
    "sdxl": sdxl(replace(XL, context_dim=128, adm_in_channels=64 + 6 * 256), (CLIP, OPEN), "sdxl", "sdxl"),
    "ssd-1b": replace(
        sdxl(
            replace(
                XL,
                context_dim=128,
                adm_in_channels=64 + 6 * 256,
                num_res_blocks=(2, 2),
                transformer_depth=(0, 0, 2, 2),
                transformer_depth_middle=0,
                transformer_depth_output=(2, 1, 1, 0, 0, 0),
            ),
            (CLIP, OPEN),
            "sdxl",
            "sdxl",
        ),
        title="SSD-1B",
    ),
    "refiner": sdxl(replace(XL, adm_in_channels=64 + 5 * 256), (OPEN,), "sdxl-refiner", "refiner"),
}
PIPELINES = {
    "sd1": "StableDiffusionPipeline",
    "sd1-inpaint": "StableDiffusionInpaintPipeline",
    "sd2-v": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "ssd-1b": "StableDiffusionXLPipeline",
    "refiner": "StableDiffusionXLImg2ImgPipeline",
}


@pytest.fixture(params=SPECS, scope="module")
def exported(request, tmp_path_factory):
    """A model of ours, the folder it was written to, and what diffusers makes of it."""
    torch.manual_seed(0)
    model = randomise(DiffusionModel(SPECS[request.param]), 0).requires_grad_(False)
    folder = tmp_path_factory.mktemp(request.param)
    save(model, folder, layout="diffusers")
    kind = getattr(diffusers, PIPELINES[request.param])
    return model, folder, kind.from_pretrained(folder, local_files_only=True)


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def test_diffusers_computes_the_same(exported):
    model, _, pipeline = exported
    spec = model.spec
    assert type(pipeline.unet).__name__ == "UNet2DConditionModel"
    x, context = noise(2, spec.unet.in_channels, 8, 8, seed=1), noise(2, 7, spec.unet.context_dim, seed=2)
    steps = torch.tensor([10.0, 700.0])
    y, extra = None, {}
    if spec.adm:
        ids = torch.arange(12.0).reshape(2, 6) if spec.adm == "sdxl" else torch.arange(10.0).reshape(2, 5)
        pooled = noise(2, 64, seed=3)
        times = pipeline.unet.add_time_proj(ids.flatten()).reshape(2, -1)
        y = torch.cat([pooled, times], dim=-1)
        extra = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids}}
    close(model.unet(x, steps, context, y), pipeline.unet(x, steps, context, **extra).sample)
    latents, pixels = noise(1, 4, 8, 8, seed=4), noise(1, 3, 16, 16, seed=5)
    close(model.vae.decode(latents), pipeline.vae.decode(latents).sample)
    close(model.vae.encode(pixels).mean, pipeline.vae.encode(pixels).latent_dist.mean)
    assert pipeline.vae.config.scaling_factor == spec.vae.scale_factor
    assert pipeline.scheduler.config.prediction_type == {"eps": "epsilon", "v": "v_prediction"}[spec.prediction]


def test_transformers_encodes_the_same(exported):
    model, _, pipeline = exported
    names = ["text_encoder_2"] if model.spec.adm == "refiner" else ["text_encoder", "text_encoder_2"][: len(model.text_encoders)]
    for name, encoder, use in zip(names, model.text_encoders, model.spec.text, strict=True):
        tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
        tokens = tokenizer(["a red circle", "3 ünïcode cats!"], padding="max_length", return_tensors="pt").input_ids
        theirs = getattr(pipeline, name)(tokens, output_hidden_states=True)
        ours = encoder(tokens, skip=use.skip, final_norm=use.final_norm)
        close(ours.hidden, theirs.hidden_states[-2] if model.spec.adm else theirs.last_hidden_state)
        if use.pooled:
            close(ours.pooled, theirs.text_embeds)


def test_our_folder_comes_back(exported):
    model, folder, _ = exported
    back = load(folder)
    expected = model.state_dict()
    state = back.state_dict()
    cut = model.spec.family == "sd2"  # diffusers' SD2 lacks what is behind the layer that is read
    for name, value in state.items():
        if name.rpartition(".")[2] != "logit_scale":
            assert torch.equal(value, expected[name]), name
    assert cut or state.keys() == expected.keys()
    if not cut:
        assert back.spec == model.spec
    tokens = torch.randint(0, VOCABULARY, (1, 77), generator=torch.Generator().manual_seed(0))
    for mine, theirs, use, used in zip(model.text_encoders, back.text_encoders, model.spec.text, back.spec.text, strict=True):
        ours = mine(tokens, skip=use.skip, final_norm=use.final_norm).hidden
        assert torch.equal(ours, theirs(tokens, skip=used.skip, final_norm=used.final_norm).hidden)


@pytest.mark.parametrize("safe", [True, False])
def test_what_diffusers_saves_loads_here(exported, safe, tmp_path):
    _, folder, pipeline = exported
    pipeline.save_pretrained(tmp_path, safe_serialization=safe)
    theirs, ours = load(tmp_path).state_dict(), load(folder).state_dict()
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.items())


def test_shards_and_variants(exported, tmp_path):
    model, folder, pipeline = exported
    pipeline.unet.save_pretrained(tmp_path / "unet", max_shard_size="100KB")
    copy.deepcopy(pipeline.vae).half().save_pretrained(tmp_path / "vae", variant="fp16")
    for part in ("text_encoder", "text_encoder_2", "scheduler"):
        if (folder / part).is_dir():
            (tmp_path / part).symlink_to(folder / part)
    assert len(list((tmp_path / "unet").glob("*.safetensors"))) > 1
    back, expected = load(tmp_path), model.state_dict()
    for name, value in back.state_dict().items():
        if name.startswith("model."):
            assert torch.equal(value, expected[name]), name
    assert torch.equal(back.vae.decoder.conv_in.weight, model.vae.decoder.conv_in.weight.half().float())


def test_a_vae_of_diffusers(exported, tmp_path):
    model, folder, pipeline = exported
    vae = load_vae(folder, scale_factor=model.spec.vae.scale_factor)
    assert vae.config == model.spec.vae
    assert all(torch.equal(value, model.vae.state_dict()[name]) for name, value in vae.state_dict().items())
    alone = load_vae(folder / "vae")
    assert alone.config == vae.config
    old = {
        name.replace("to_q", "query").replace("to_k", "key").replace("to_v", "value").replace("to_out.0", "proj_attn"): value
        for name, value in pipeline.vae.state_dict().items()
    }
    torch.save(old, tmp_path / "old.bin")
    again = load_vae(tmp_path / "old.bin")
    assert all(torch.equal(value, vae.state_dict()[name]) for name, value in again.state_dict().items())


def test_folder_to_single_file_and_back(exported, tmp_path):
    _, folder, _ = exported
    spec = convert(folder, tmp_path / "model.safetensors")
    one = load(tmp_path / "model.safetensors")
    assert one.spec == spec == load(folder).spec
    convert(tmp_path / "model.safetensors", tmp_path / "folder", layout="diffusers")
    for name in ("unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
