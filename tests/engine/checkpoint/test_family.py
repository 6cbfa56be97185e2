"""Detection is the inverse of construction; what shapes do not tell comes from hints; strangers are named."""

import random
from dataclasses import replace

import pytest
import torch
from tests.engine.checkpoint.small_specs import CLIP, OPEN, SPECS, VAE, refiner, sd1, sd2, sdxl, text, unet, with_unet

from sfumato.engine.checkpoint.family import detect
from sfumato.engine.checkpoint.hints import (
    Hints,
    hints_beside,
    hints_from_markers,
    hints_from_metadata,
    hints_from_scheduler,
    hints_from_yaml,
)
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.models.config import TextConfig, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.errors import CorruptFile, UnsafeFile, Unsupported


def shapes(spec):
    with torch.device("meta"):
        return dict(DiffusionModel(spec).state_dict())


@pytest.mark.parametrize("name", SPECS)
def test_detection_is_the_inverse_of_construction(name):
    assert detect(shapes(SPECS[name])) == SPECS[name]


@pytest.mark.parametrize("seed", range(8))
def test_random_widths(seed):
    pick = random.Random(seed)
    levels = pick.randint(1, 4)
    blocks = tuple(pick.randint(1, 2) for _ in range(levels))
    width = 64 * pick.randint(1, 3)
    linear = pick.random() < 0.5
    shape = UNetConfig(
        out_channels=4,
        model_channels=64,
        channel_mult=tuple(pick.choice((1, 2, 3)) for _ in range(levels)),
        num_res_blocks=blocks,
        transformer_depth=tuple(pick.randint(0, 2) for _ in range(sum(blocks))),
        transformer_depth_middle=1,
        transformer_depth_output=tuple(pick.randint(0, 2) for _ in range(sum(blocks) + levels)),
        context_dim=width,
        num_heads=None if linear else 8,
        head_dim=64 if linear else None,
        use_linear_projection=linear,
    )
    autoencoder = VAEConfig(
        ch=32, ch_mult=tuple(pick.choice((1, 2)) for _ in range(pick.randint(1, 4))), num_res_blocks=pick.randint(1, 2)
    )
    encoder = TextConfig(width=width, layers=pick.randint(1, 4), heads=width // 64, mlp_width=width * 2, vocab_size=30)
    spec = sd1(unet=shape, vae=autoencoder, text=text("sd1", encoder))
    assert detect(shapes(spec)) == spec


CLIP_L = TextConfig()
CLIP_H = TextConfig("open_clip", 49408, 1024, 24, 16, 4096, 77, "gelu", 1024, False)
BIG_G = TextConfig("open_clip", 49408, 1280, 32, 20, 5120, 77, "gelu", 1280, False)
LINEAR = {"num_heads": None, "head_dim": 64, "use_linear_projection": True}
XL = {**LINEAR, "channel_mult": (1, 2, 4), "num_res_blocks": (2, 2, 2), "context_dim": 2048, "adm_in_channels": 2816}
DEEP = {"transformer_depth": (0, 0, 2, 2, 10, 10), "transformer_depth_output": (10, 10, 10, 2, 2, 2, 0, 0, 0)}
THIN = {"transformer_depth": (0, 0, 2, 2, 4, 4), "transformer_depth_output": (4, 4, 10, 2, 1, 1, 0, 0, 0)}
REFINER = {"transformer_depth": (0, 0, 4, 4, 4, 4, 0, 0), "transformer_depth_output": (0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0)}
REAL = {
    "sd1": (sd1(), UNetConfig(), (CLIP_L,)),
    "sd2": (sd2(), UNetConfig(context_dim=1024, **LINEAR), (CLIP_H,)),
    "sdxl": (sdxl(), UNetConfig(**XL, **DEEP, transformer_depth_middle=10), (CLIP_L, BIG_G)),
    "ssd-1b": (sdxl(title="SSD-1B"), UNetConfig(**XL, **THIN, transformer_depth_middle=0), (CLIP_L, BIG_G)),
    "sdxl-refiner": (
        refiner(),
        UNetConfig(**LINEAR, **REFINER, model_channels=384, context_dim=1280, adm_in_channels=2560, transformer_depth_middle=4),
        (BIG_G,),
    ),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sizes(name):
    base, shape, encoders = REAL[name]
    vae = VAEConfig(scale_factor=base.vae.scale_factor)
    spec = replace(base, unet=shape, vae=vae, text=text(base.family, *encoders))
    assert detect(shapes(spec)) == spec


def test_widths_that_the_usual_heads_and_groups_do_not_divide():
    """Then the largest power of two that does; the choice is deterministic and builds a working model."""
    spec = with_unet(sd1(vae=replace(VAE, ch=24)), model_channels=36)
    found = detect(shapes(divided(spec)))
    assert (found.unet.norm_num_groups, found.unet.num_heads, found.vae.norm_num_groups) == (4, 4, 8)


def divided(spec):
    return replace(spec, unet=replace(spec.unet, norm_num_groups=4, num_heads=4), vae=replace(spec.vae, norm_num_groups=8))


def test_unclip_by_its_image_encoder():
    names = shapes(with_unet(sd2(), adm_in_channels=1536)) | {"embedder.model.ln_final.weight": torch.empty(768, device="meta")}
    found = detect(names)
    assert (found.variant, found.adm, found.prediction) == ("unclip", "unclip", "v")


def test_sd2_without_its_unused_last_layer_reads_the_last():
    config = replace(OPEN, width=1024, heads=16, layers=23, projection_dim=None)
    spec = sd2(unet=unet(num_heads=None, head_dim=64, use_linear_projection=True, context_dim=1024), text=text("sd2", config))
    assert detect(shapes(spec)).text[0].skip == 1


@pytest.mark.parametrize(("spread", "kind"), [(0.02, "eps"), (0.2, "v")])
def test_sd2_prediction_by_the_spread_of_a_bias(spread, kind):
    shape = unet(num_heads=None, head_dim=64, use_linear_projection=True, num_res_blocks=(2, 2, 2, 2), channel_mult=(1, 1, 1, 1))
    shape = replace(shape, transformer_depth=(1,) * 8, transformer_depth_output=(1,) * 12)
    names = {name: GivenTensor(torch.empty(value.shape, device="meta")) for name, value in shapes(sd2(unet=shape)).items()}
    bias = torch.linspace(-1, 1, 64)
    names["model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"] = GivenTensor(bias / bias.std() * spread)
    assert detect(names).prediction == kind


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("model.diffusion_model.x_embedder.proj.weight", "Stable Diffusion 3"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.clip_txt_mapper.weight", "Stable Cascade"),
        ("cond_stage_model.roberta.embeddings.word_embeddings.weight", "Alt-Diffusion"),
        ("edm_mean", "Playground"),
        ("model.diffusion_model.input_blocks.1.0.time_stack.in_layers.0.weight", "Video"),
    ],
)
def test_strangers_are_named(name, title):
    with pytest.raises(Unsupported, match=title):
        detect({name: torch.empty(2, 2, device="meta")})


def test_missing_parts_say_what_to_add():
    whole = shapes(sd1())
    with pytest.raises(CorruptFile, match=r"no autoencoder.*'vae'"):
        detect({name: value for name, value in whole.items() if not name.startswith("first_stage_model.")})
    with pytest.raises(CorruptFile, match="no text encoder"):
        detect({name: value for name, value in whole.items() if not name.startswith("cond_stage_model.")})
    real = shapes(sd1(unet=unet(context_dim=768), text=text("sd1", replace(CLIP, width=768, heads=12))))
    with pytest.raises(CorruptFile, match=r"no text encoder below.*'text'"):
        detect({name: value for name, value in real.items() if not name.startswith("cond_stage_model.")})
    with pytest.raises(CorruptFile, match="width 64 and the text encoders give 128"):
        detect(shapes(sd1(text=text("sd1", replace(CLIP, width=128, heads=2)))))
    with pytest.raises(CorruptFile, match=r"lacks the tensor 'out\.2\.weight'"):
        detect({name: value for name, value in whole.items() if name != "model.diffusion_model.out.2.weight"})
    with pytest.raises(CorruptFile):
        detect({"nonsense": torch.empty(1)})
    with pytest.raises(CorruptFile, match=r"4 channels and the autoencoder .* on 16"):
        detect(shapes(sd1(vae=replace(VAE, z_channels=16, embed_dim=16))))
    odd = with_unet(sd1(), in_channels=7)
    with pytest.raises(Unsupported, match="7 channels"):
        detect(shapes(odd))


# --- hints ------------------------------------------------------------------------------------------------------------


def test_hints_decide_what_shapes_do_not():
    hints = Hints(
        prediction="v", zero_terminal_snr=True, norm_num_groups=16, num_heads=4, text_heads=(2,), size=320, scale_factor=0.5
    )
    found = detect(shapes(sd1()), hints)
    assert (found.prediction, found.zero_terminal_snr, found.size, found.vae.scale_factor) == ("v", True, 320, 0.5)
    assert (found.unet.norm_num_groups, found.unet.num_heads, found.text[0].config.heads) == (16, 4, 2)


def test_stronger_hints_go_first():
    weak = Hints(prediction="eps", num_heads=8, size=512)
    assert Hints(prediction="v", head_dim=32).over(weak) == Hints(prediction="v", head_dim=32, size=512)


def test_markers():
    assert hints_from_markers({"v_pred": 0, "ztsnr": 0}) == Hints(prediction="v", zero_terminal_snr=True)
    marked = shapes(sdxl()) | {"v_pred": torch.empty(0), "ztsnr": torch.empty(0)}
    assert (detect(marked).prediction, detect(marked).zero_terminal_snr) == ("v", True)


def test_metadata():
    found = hints_from_metadata(
        {
            "modelspec.prediction_type": "v",
            "modelspec.resolution": "768x768",
            "norm_num_groups": "16",
            "sfumato.text_heads": "[4, 2]",
            "sfumato.linear_end": "0.02",
            "sfumato.zero_terminal_snr": "true",
        }
    )
    expected = Hints(prediction="v", zero_terminal_snr=True, norm_num_groups=16, text_heads=(4, 2), linear_end=0.02, size=768)
    assert found == expected


def test_the_architecture_of_modelspec_tells_v():
    assert hints_from_metadata({"modelspec.architecture": "stable-diffusion-v2-768-v"}).prediction == "v"
    assert hints_from_metadata({"modelspec.architecture": "stable-diffusion-v2-512"}).prediction is None


@pytest.mark.parametrize("text", ["", "NaN", "1e999", "-3", "[1,", "[" * 90, "9" * 99, '"x"', "0", "[0]", "true"])
def test_malformed_metadata_is_no_fact(text):
    keys = ("num_heads", "text_heads", "linear_start", "timesteps", "scale_factor")
    found = hints_from_metadata(
        {f"sfumato.{key}": text for key in keys} | {"norm_num_groups": text, "modelspec.resolution": text}
    )
    assert found == Hints()


def test_yaml_of_latent_diffusion_and_of_sgm():
    ldm = {
        "model": {
            "params": {
                "parameterization": "v",
                "linear_start": 0.001,
                "use_ema": True,
                "unet_config": {"params": {"num_head_channels": 64}},
            }
        }
    }
    assert hints_from_yaml(ldm) == Hints(prediction="v", linear_start=0.001, use_ema=True, head_dim=64)
    target = "sgm.modules.diffusionmodules.denoiser_scaling.VScaling"
    sgm = {"model": {"params": {"denoiser_config": {"params": {"scaling_config": {"target": target}}}}}}
    assert hints_from_yaml(sgm) == Hints(prediction="v")
    assert hints_from_yaml(["nonsense"]) == hints_from_yaml(None) == Hints()


def test_yaml_beside_the_file(tmp_path):
    model = tmp_path / "model.safetensors"
    assert hints_beside(model) == Hints()
    (tmp_path / "model.yaml").write_text("model:\n  params:\n    parameterization: v\n    scale_factor: 0.2\n")
    assert hints_beside(model) == Hints(prediction="v", scale_factor=0.2)


BOMBS = {
    "aliases": ("a: &a [x]\nb: *a\n", UnsafeFile),
    "large": ("a: " + "x" * 300_000, UnsafeFile),
    "long": ("- a\n" * 60_000, UnsafeFile),
    "deep": ("[" * 5000 + "]" * 5000, UnsafeFile),
    "object": ("a: !!python/object/apply:os.system ['true']\n", Unsupported),
    "broken": ("a: [", Unsupported),
    "binary": ("\x00\x01", Unsupported),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_hostile_yaml(kind, tmp_path):
    content, error = BOMBS[kind]
    (tmp_path / "model.yaml").write_text(content)
    with pytest.raises(error):
        hints_beside(tmp_path / "model.ckpt")


def test_scheduler_of_a_folder():
    config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "beta_end": 0.012, "num_train_timesteps": 1000}
    assert hints_from_scheduler(config) == Hints(prediction="v", zero_terminal_snr=True, linear_end=0.012, timesteps=1000)
    with pytest.raises(Unsupported, match="squaredcos"):
        hints_from_scheduler({"beta_schedule": "squaredcos_cap_v2"})
