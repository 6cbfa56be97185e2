"""Our autoencoders against diffusers' on the same random weights."""

import pytest
import torch
from diffusers import AutoencoderKL as Reference
from tests.parity.oracle import adopt, assert_same, need_memory, noise, randomise, translate

from sfumato.engine.checkpoint.keys import vae_modules
from sfumato.engine.models.attention import chunked_attention
from sfumato.engine.models.config import VAEConfig
from sfumato.engine.models.vae import AutoencoderKL

TINY = VAEConfig(ch=16, norm_num_groups=4)
CONFIGS = {
    "sd": TINY,
    "starter": VAEConfig(ch=16, ch_mult=(1, 1, 2, 4), num_res_blocks=1, norm_num_groups=4),
    "f4": VAEConfig(ch=16, ch_mult=(1, 2, 4), z_channels=3, embed_dim=3, norm_num_groups=8),
}


def pair(config: VAEConfig, seed: int):
    with torch.device("meta"):
        ours = AutoencoderKL(config)
        theirs = Reference(
            block_out_channels=[config.ch * mult for mult in config.ch_mult],
            down_block_types=["DownEncoderBlock2D"] * len(config.ch_mult),
            up_block_types=["UpDecoderBlock2D"] * len(config.ch_mult),
            layers_per_block=config.num_res_blocks,
            latent_channels=config.embed_dim,
            norm_num_groups=config.norm_num_groups,
        )
    randomise(theirs.to_empty(device="cpu"), seed)
    return adopt(ours, translate(ours, theirs, vae_modules(len(config.ch_mult), config.num_res_blocks))), theirs


@pytest.mark.parametrize("size", [(64, 64), (40, 72), (61, 47)])
@pytest.mark.parametrize("layout", CONFIGS)
def test_encoding_gives_the_moments_of_the_reference(layout, size, seed):
    ours, theirs = pair(CONFIGS[layout], seed)
    pixels = noise(2, 3, *size, seed=seed + 1).clamp(-1, 1)
    got, want = ours.encode(pixels), theirs.encode(pixels).latent_dist
    assert_same(got.mean, want.mean)
    assert_same(got.logvar, want.logvar)
    draw = noise(*want.mean.shape, seed=seed + 2)
    assert_same(got.sample(draw), want.mean + want.std * draw)


@pytest.mark.parametrize("size", [(8, 8), (5, 9)])
@pytest.mark.parametrize("layout", CONFIGS)
def test_decoding_gives_the_pixels_of_the_reference(layout, size, seed):
    ours, theirs = pair(CONFIGS[layout], seed)
    latents = noise(2, CONFIGS[layout].embed_dim, *size, seed=seed + 1)
    got = ours.decode(latents)
    assert_same(got, theirs.decode(latents).sample)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_attention_can_be_computed_in_pieces(seed):
    ours, theirs = pair(TINY, seed)
    latents = noise(1, 4, 6, 6, seed=seed + 1)
    assert_same(ours.decode(latents, attention=chunked_attention(1000)), theirs.decode(latents).sample)


def test_extreme_variances_are_clamped_as_in_the_reference(seed):
    ours, theirs = pair(TINY, seed)
    ours.quant_conv.bias[4:] = torch.tensor([100.0, -100.0, 3.0, -3.0])
    pixels = noise(1, 3, 16, 16, seed=seed + 1)
    got, want = ours.encode(pixels).logvar, theirs.encode(pixels).latent_dist.logvar
    assert_same(got, want)
    assert float(got.max()) == 20.0
    assert float(got.min()) == -30.0


@pytest.mark.slow
def test_real_widths(seed):
    need_memory(3)
    ours, theirs = pair(VAEConfig(), seed)
    pixels = noise(1, 3, 128, 128, seed=seed + 1).clamp(-1, 1)
    assert_same(ours.encode(pixels).mean, theirs.encode(pixels).latent_dist.mean)
    latents = noise(1, 4, 16, 16, seed=seed + 2)
    assert_same(ours.decode(latents), theirs.decode(latents).sample)


@pytest.mark.slow
def test_exactness_does_not_fade_with_size(seed):
    """Sums over a quarter of a million pixels are where single precision gives out first."""
    need_memory(5)
    ours, theirs = pair(VAEConfig(), seed)
    latents = noise(1, 4, 64, 64, seed=seed + 1)
    got, want = ours.decode(latents), theirs.decode(latents).sample
    assert_same(got, want)
    assert float((got - want).square().mean().sqrt()) < 2e-5 * float(want.std())
