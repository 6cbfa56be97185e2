"""The root module: sizes, names, building on meta, and what a UNet refuses."""

import copy

import pytest
import torch
from torch import nn

from sfumato.engine.models.attention import ContextKV, Residuals, Seams
from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.layers import set_tiling
from sfumato.engine.models.openclip import OpenCLIPText
from sfumato.engine.models.unet import UNet

TINY = {"model_channels": 16, "context_dim": 24, "norm_num_groups": 4, "num_heads": 2}
TINY_UNET = UNetConfig(**TINY)
TINY_VAE = VAEConfig(ch=8, norm_num_groups=4)
TINY_TEXT = TextConfig(width=24, layers=3, heads=2, mlp_width=32, vocab_size=100)
TINY_ENCODERS = (TextEncoderSpec(TINY_TEXT, "cond_stage_model.transformer."),)
SD1 = TextEncoderSpec(TextConfig(), "cond_stage_model.transformer.")
OPEN = TextConfig("open_clip", 49408, 1280, 32, 20, 5120, 77, "gelu", 1280, False)
SDXL_UNET = UNetConfig(
    channel_mult=(1, 2, 4),
    num_res_blocks=(2, 2, 2),
    transformer_depth=(0, 0, 2, 2, 10, 10),
    transformer_depth_middle=10,
    transformer_depth_output=(10, 10, 10, 2, 2, 2, 0, 0, 0),
    context_dim=2048,
    num_heads=None,
    head_dim=64,
    use_linear_projection=True,
    adm_in_channels=2816,
)
SDXL_TEXT = (
    TextEncoderSpec(TextConfig(), "conditioner.embedders.0.transformer.", skip=2, final_norm=False),
    TextEncoderSpec(OPEN, "conditioner.embedders.1.model.", skip=2, final_norm=False, pooled=True),
)


def spec(unet=TINY_UNET, vae=TINY_VAE, text=TINY_ENCODERS):
    return ModelSpec("sd1", unet, vae, text)


def build(spec):
    with torch.device("meta"):
        return DiffusionModel(spec)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return DiffusionModel(spec())


def test_sd15_has_its_published_size():
    model = build(spec(UNetConfig(), VAEConfig(), (SD1,)))
    assert count_parameters(model.unet) == 859_520_964
    assert count_parameters(model.vae) == 83_653_863
    assert count_parameters(model.text_encoders[0]) == 123_060_480
    # A file of SD1.5 has these 1130 tensors and `position_ids`, which is no weight.
    assert len(model.state_dict()) == 1130


def test_sdxl_has_its_published_size():
    model = build(spec(SDXL_UNET, VAEConfig(scale_factor=0.13025), SDXL_TEXT))
    assert count_parameters(model.unet) == 2_567_463_684
    clip, open_clip = model.text_encoders
    assert count_parameters(clip) == 123_060_480
    assert isinstance(open_clip, OpenCLIPText)
    # 694 659 840 weights and the temperature.
    assert count_parameters(open_clip) == 694_659_841


def test_sd2_has_its_published_size():
    unet = UNetConfig(context_dim=1024, num_heads=None, head_dim=64, use_linear_projection=True)
    model = build(spec(unet))
    assert count_parameters(model.unet) == 865_910_724


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.time_embed.2.bias",
        "model.diffusion_model.label_emb.0.0.weight",
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight",
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_out.0.bias",
        "model.diffusion_model.middle_block.1.transformer_blocks.9.ff.net.0.proj.weight",
        "model.diffusion_model.middle_block.2.emb_layers.1.weight",
        "model.diffusion_model.output_blocks.2.2.conv.weight",
        "model.diffusion_model.output_blocks.8.0.out_layers.3.bias",
        "model.diffusion_model.out.2.weight",
        "first_stage_model.encoder.down.0.downsample.conv.weight",
        "first_stage_model.encoder.mid.attn_1.proj_out.weight",
        "first_stage_model.decoder.up.3.upsample.conv.bias",
        "first_stage_model.decoder.up.1.block.0.nin_shortcut.weight",
        "first_stage_model.post_quant_conv.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.self_attn.q_proj.weight",
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight",
        "conditioner.embedders.1.model.positional_embedding",
        "conditioner.embedders.1.model.text_projection",
        "conditioner.embedders.1.model.logit_scale",
    ],
)
def test_names_are_those_of_single_files(name):
    assert name in build(spec(SDXL_UNET, VAEConfig(), SDXL_TEXT)).state_dict()


def test_building_on_meta_takes_no_memory_and_no_random_numbers():
    state = torch.random.get_rng_state()
    model = build(spec(SDXL_UNET, VAEConfig(), SDXL_TEXT))
    assert all(tensor.is_meta for tensor in model.state_dict().values())
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_are_adopted_without_a_copy(tiny):
    tensors = tiny.state_dict()
    again = build(spec())
    again.load_state_dict(tensors, assign=True)
    assert all(tensor.data_ptr() == tensors[name].data_ptr() for name, tensor in again.state_dict().items())


def test_a_fresh_model_has_sound_random_weights(tiny):
    assert all(torch.isfinite(tensor).all() for tensor in tiny.state_dict().values())
    out = tiny.unet(torch.randn(1, 4, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24))
    assert float(out.detach().std()) > 0


def test_the_middle_may_be_small_or_missing():
    single = build(spec(UNetConfig(transformer_depth_middle=0))).unet
    assert [name for name, _ in single.middle_block.named_children()] == ["0"]
    missing = UNet(UNetConfig(**{**TINY, "transformer_depth_middle": -1}))
    assert not any(name.startswith("middle_block") for name in missing.state_dict())
    assert missing(torch.randn(1, 4, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24)).shape == (1, 4, 8, 8)


def test_the_wrong_number_of_channels_is_named(tiny):
    with pytest.raises(ValueError, match="takes 4 channels, not 9"):
        tiny.unet(torch.randn(1, 9, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24))


def test_a_missing_vector_condition_is_named():
    unet = UNet(UNetConfig(**TINY, adm_in_channels=12))
    with pytest.raises(ValueError, match="vector condition y of width 12"):
        unet(torch.randn(1, 4, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_res_blocks": (2, 2)},
        {"transformer_depth": (1,)},
        {"transformer_depth_output": ()},
        {"head_dim": 8},
        {"num_heads": None},
    ],
)
def test_a_config_that_does_not_fit_together_is_refused(changes):
    with pytest.raises(ValueError, match=r"entr|exactly one"), torch.device("meta"):
        UNet(UNetConfig(**{**TINY, **changes}))


@pytest.mark.parametrize("skip", [0, 4, -1])
def test_a_clip_skip_beyond_the_layers_is_refused(tiny, skip):
    with pytest.raises(ValueError, match="between 1 and 3"):
        tiny.text_encoders[0](torch.zeros(1, 77, dtype=torch.int64), skip=skip)


def test_training_reaches_every_weight(tiny):
    """Gradients exist for all parts: no in-place step destroys what they need, and no weight is idle."""
    context = tiny.text_encoders[0](torch.randint(0, 99, (1, 77))).hidden
    moments = tiny.vae.encode(torch.randn(1, 3, 64, 64))
    predicted = tiny.unet(moments.sample(torch.randn_like(moments.mean)), torch.tensor([1]), context)
    tiny.vae.decode(predicted).square().mean().backward()
    idle = [name for name, parameter in tiny.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    # Softmax does not see what all keys share.
    assert [name for name in idle if not name.endswith(("k_proj.bias", "attn_1.k.bias"))] == []


def test_residuals_of_one_picture_serve_a_batch(tiny):
    x, steps, context = torch.randn(2, 4, 8, 8), torch.tensor([1, 2]), torch.randn(2, 5, 24)
    middle = torch.randn(1, 64, 1, 1)
    with torch.inference_mode():
        both = tiny.unet(x, steps, context, seams=Seams(residuals=Residuals(middle=middle)))
        one = tiny.unet(x[1:], steps[1:], context[1:], seams=Seams(residuals=Residuals(middle=middle)))
        plain = tiny.unet(x, steps, context)
    torch.testing.assert_close(both[1:], one)
    assert not torch.allclose(both, plain)


def test_the_context_transform_sees_every_attention_once_in_order(tiny):
    seen = []

    def transform(source, site):
        seen.append((site.kind, site.index, site.name))
        assert source.shape[-1] == site.context_width
        return source * 2, source

    x, steps, context = torch.randn(1, 4, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24)
    seams = Seams(transform=transform)
    with torch.inference_mode():
        projected = tiny.unet.project_context(context, seams)
        assert [site[:2] for site in seen] == [("cross", number) for number in range(16)]
        got = tiny.unet(x, steps, projected, seams=seams)
        assert [site[:2] for site in seen[16:]] == [("self", number) for number in range(16)]
        assert seen[0][2] == "input_blocks.1.1.transformer_blocks.0.attn2"
        # The same by hand: keys twice as large everywhere.
        doubled = copy.deepcopy(tiny.unet)
        for name, module in doubled.named_modules():
            if name.endswith("to_k"):
                module.weight.mul_(2)
        torch.testing.assert_close(got, doubled(x, steps, context))


def test_the_attention_function_is_told_where_it_is(tiny):
    seen = set()

    def attention(query, key, value, site):
        assert query.shape[1] == site.heads
        assert query.shape[1] * query.shape[3] == site.width
        seen.add(site.name)
        return torch.zeros_like(query)

    with torch.inference_mode():
        tiny.unet(torch.randn(1, 4, 8, 8), torch.tensor([1]), torch.randn(1, 5, 24), seams=Seams(attention=attention))
    assert len(seen) == 32


def test_an_empty_projection_has_no_batch():
    assert ContextKV(()).batch == 0


def test_a_tiled_model_rolls_with_its_input(tiny):
    set_tiling(tiny, True, False)
    latents = torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        rolled = tiny.vae.decode(latents.roll(3, 3))
        torch.testing.assert_close(rolled, tiny.vae.decode(latents).roll(24, 3), rtol=1e-4, atol=1e-5)
        moved = tiny.vae.decode(latents.roll(3, 2))
        assert not torch.allclose(moved, tiny.vae.decode(latents).roll(24, 2), atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_computes_in_the_number_format_of_its_weights(tiny, dtype):
    """Inputs may come in float32: each network takes them over and answers in its own format, near the float32 result."""
    tokens, steps = torch.randint(0, 99, (1, 77)), torch.tensor([999])
    x, pixels = torch.randn(1, 4, 8, 8), torch.rand(1, 3, 32, 32)
    other = copy.deepcopy(tiny).to(dtype)
    results = []
    with torch.inference_mode():
        for model in (tiny, other):
            context = model.text_encoders[0](tokens).hidden
            results.append((context, model.unet(x, steps, context), model.vae.encode(pixels).mean, model.vae.decode(x)))
    for name, want, got in zip(("text", "unet", "encoder", "decoder"), *results, strict=True):
        assert got.dtype == dtype, name
        error = (got.float() - want).abs().max() / want.abs().max()
        assert float(error) < 0.1, name
