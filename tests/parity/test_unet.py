"""Our UNet against diffusers' on the same random weights, for every family."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from tests.parity.oracle import adopt, assert_same, need_memory, noise, randomise, translate

from sfumato.engine.checkpoint.keys import unet_modules_of
from sfumato.engine.models.attention import ContextKV, Residuals, Seams, chunked_attention
from sfumato.engine.models.config import UNetConfig
from sfumato.engine.models.layers import timestep_embedding
from sfumato.engine.models.unet import UNet

TINY = {"model_channels": 32, "norm_num_groups": 8, "context_dim": 24}
SDXL = {
    "channel_mult": (1, 2, 4),
    "num_res_blocks": (2, 2, 2),
    "num_heads": None,
    "use_linear_projection": True,
}
CONFIGS = {
    "sd1": UNetConfig(**TINY),
    "sd2": UNetConfig(**TINY, num_heads=None, head_dim=16, use_linear_projection=True),
    "inpaint": UNetConfig(**TINY, in_channels=9),
    "pix2pix": UNetConfig(**TINY, in_channels=8),
    "depth": UNetConfig(**TINY, in_channels=5, num_heads=None, head_dim=16, use_linear_projection=True),
    "sdxl": UNetConfig(
        **TINY,
        **SDXL,
        head_dim=16,
        transformer_depth=(0, 0, 2, 2, 3, 3),
        transformer_depth_middle=3,
        transformer_depth_output=(3, 3, 3, 2, 2, 2, 0, 0, 0),
        adm_in_channels=20 + 6 * 8,
    ),
    "ssd-1b": UNetConfig(
        **TINY,
        **SDXL,
        head_dim=16,
        transformer_depth=(0, 0, 2, 2, 4, 4),
        transformer_depth_middle=0,
        transformer_depth_output=(4, 4, 5, 2, 1, 1, 0, 0, 0),
        adm_in_channels=20 + 6 * 8,
    ),
    "refiner": UNetConfig(
        model_channels=48,
        norm_num_groups=8,
        context_dim=24,
        num_heads=None,
        head_dim=16,
        use_linear_projection=True,
        transformer_depth=(0, 0, 2, 2, 2, 2, 0, 0),
        transformer_depth_middle=2,
        transformer_depth_output=(0, 0, 0, 2, 2, 2, 2, 2, 2, 0, 0, 0),
        adm_in_channels=20 + 5 * 8,
    ),
    "starter": UNetConfig(
        model_channels=32,
        channel_mult=(1, 2, 3),
        num_res_blocks=(1, 1, 1),
        transformer_depth=(0, 1, 1),
        transformer_depth_output=(1, 1, 1, 1, 0, 0),
        context_dim=24,
        norm_num_groups=8,
    ),
}
FULL = {
    "sd1": UNetConfig(),
    "sd2-v": UNetConfig(context_dim=1024, num_heads=None, head_dim=64, use_linear_projection=True),
    "sdxl": UNetConfig(
        **SDXL,
        head_dim=64,
        context_dim=2048,
        transformer_depth=(0, 0, 2, 2, 10, 10),
        transformer_depth_middle=10,
        transformer_depth_output=(10, 10, 10, 2, 2, 2, 0, 0, 0),
        adm_in_channels=2816,
    ),
}


def per_level(values: tuple[int, ...], counts: list[int]) -> list[list[int]]:
    """Split a flat list of the blocks' values into the levels'."""
    rest = iter(values)
    return [[next(rest) for _ in range(count)] for count in counts]


def reference(config: UNetConfig, pooled: int, size_width: int) -> UNet2DConditionModel:
    """diffusers' model of the same shapes, on the current device."""
    down = [max(depths) for depths in per_level(config.transformer_depth, list(config.num_res_blocks))]
    up = per_level(config.transformer_depth_output, [n + 1 for n in reversed(config.num_res_blocks)])
    widths = [config.model_channels * mult for mult in config.channel_mult]
    adm = {}
    if config.adm_in_channels is not None:
        adm = {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": size_width,
            "projection_class_embeddings_input_dim": config.adm_in_channels,
        }
    return UNet2DConditionModel(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        block_out_channels=widths,
        layers_per_block=config.num_res_blocks[0],
        down_block_types=["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in down],
        up_block_types=["CrossAttnUpBlock2D" if any(depths) else "UpBlock2D" for depths in up],
        mid_block_type="UNetMidBlock2DCrossAttn" if config.transformer_depth_middle else "UNetMidBlock2D",
        # The reference takes the middle's depth from the last level.
        transformer_layers_per_block=[*down[:-1], down[-1] or config.transformer_depth_middle],
        reverse_transformer_layers_per_block=up,
        attention_head_dim=[config.num_heads or width // config.head_dim for width in widths],
        cross_attention_dim=config.context_dim,
        use_linear_projection=config.use_linear_projection,
        norm_num_groups=config.norm_num_groups,
        **adm,
    )


class Case:
    """Both models on the same weights, and inputs for them."""

    def __init__(self, config: UNetConfig, seed: int, *, batch: int, size: tuple[int, int], full: bool = False) -> None:
        pooled, size_width = (1280, 256) if full else (20, 8)
        with torch.device("meta"):
            self.ours, self.theirs = UNet(config), reference(config, pooled, size_width)
        randomise(self.theirs.to_empty(device="cpu"), seed)
        adopt(self.ours, translate(self.ours, self.theirs, unet_modules_of(config)))
        self.x = noise(batch, config.in_channels, *size, seed=seed + 1)
        self.timesteps = torch.tensor([981, 3, 500, 250][:batch])
        self.context = noise(batch, 77 if full else 9, config.context_dim, seed=seed + 2)
        self.y = self.conditions = None
        if config.adm_in_channels is not None:
            text = noise(batch, pooled, seed=seed + 3)
            count = (config.adm_in_channels - pooled) // size_width
            ids = torch.arange(count * batch).reshape(batch, count) * 64.0
            sizes = timestep_embedding(ids.flatten(), size_width).reshape(batch, -1)
            self.y = torch.cat([text, sizes], dim=1)
            self.conditions = {"text_embeds": text, "time_ids": ids}

    def want(self, **more):
        return self.theirs(self.x, self.timesteps, self.context, added_cond_kwargs=self.conditions, **more).sample

    def got(self, context=None, seams=None):
        return self.ours(self.x, self.timesteps, self.context if context is None else context, self.y, seams=seams)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_prediction_is_that_of_the_reference(family, seed):
    case = Case(CONFIGS[family], seed, batch=2, size=(16, 24))
    assert_same(case.got(), case.want())


@pytest.mark.parametrize("size", [(15, 17), (9, 16), (8, 13), (1, 1)])
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_sides_need_not_divide_by_eight(family, size, seed):
    case = Case(CONFIGS[family], seed, batch=1, size=size)
    got = case.got()
    assert_same(got, case.want())
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_a_projected_context_gives_the_same_picture_bit_by_bit(seed):
    case = Case(CONFIGS["sdxl"], seed, batch=2, size=(8, 8))
    projected = case.ours.project_context(case.context)
    assert projected.batch == 2
    assert torch.equal(case.got(projected), case.got())
    halves = ContextKV.concatenate([projected.select([1]), projected.select(slice(0, 1))])
    swapped = ContextKV.concatenate([halves.select([1]), halves.select([0])])
    assert torch.equal(case.got(swapped), case.got())


def test_one_condition_serves_a_whole_batch(seed):
    case = Case(CONFIGS["sd1"], seed, batch=3, size=(8, 8))
    case.context = case.context[:1].expand(3, -1, -1)
    assert_same(case.got(case.ours.project_context(case.context[:1]).expand(3)), case.want())


@pytest.mark.parametrize("budget", [1, 20_000, 10**9])
def test_chunked_attention_is_attention(budget, seed):
    case = Case(CONFIGS["sd1"], seed, batch=2, size=(8, 10))
    assert_same(case.got(seams=Seams(attention=chunked_attention(budget))), case.want())


def test_residuals_of_a_controlnet_land_where_the_reference_adds_them(seed):
    case = Case(CONFIGS["sd1"], seed, batch=1, size=(16, 16))
    shapes = [skip.shape for skip in skips_of(case)]
    skips = [noise(*shape, seed=seed + 10 + n) for n, shape in enumerate(shapes)]
    middle = noise(*shapes[-1], seed=seed + 9)
    want = case.want(down_block_additional_residuals=skips, mid_block_additional_residual=middle)
    assert_same(case.got(seams=Seams(residuals=Residuals(skips=skips, middle=middle))), want)


def test_residuals_of_a_t2i_adapter_are_carried_on_by_the_encoder(seed):
    case = Case(CONFIGS["sd1"], seed, batch=1, size=(16, 16))
    shapes = [skip.shape for skip in skips_of(case)]
    # The reference adds them to the last block of each level, behind which the level's other skips are taken already.
    features = {block: noise(*shapes[block], seed=seed + block) for block in (2, 5, 8, 11)}
    want = case.want(down_intrablock_additional_residuals=list(features.values()))
    assert_same(case.got(seams=Seams(residuals=Residuals(inputs=features))), want)


def skips_of(case):
    """What the encoder leaves for the decoder."""
    found = []
    hooks = [block.register_forward_hook(lambda _m, _i, out: found.append(out)) for block in case.ours.input_blocks]
    case.got()
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("family", "memory"), [("sd1", 4.5), ("sd2-v", 4.5), ("sdxl", 11.5)])
def test_real_widths(family, memory, seed):
    need_memory(memory)
    # Large enough for the faster convolutions of real pictures.
    case = Case(FULL[family], seed, batch=2, size=(32, 32), full=True)
    assert_same(case.got(), case.want())
