"""Decoding and encoding in strips against the whole picture."""

import pytest
import torch

from sfumato.engine.models.config import VAEConfig
from sfumato.engine.models.layers import set_tiling
from sfumato.engine.models.strips import Strips, decode_in_strips, encode_in_strips
from sfumato.engine.models.vae import AutoencoderKL

TINY = VAEConfig(ch=32, norm_num_groups=8)
WIDE = VAEConfig(ch=96, ch_mult=(1, 2), num_res_blocks=1)


def build(config: VAEConfig, dtype: torch.dtype = torch.float64) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(config).eval().to(dtype=dtype, memory_format=torch.channels_last)


def same(a: torch.Tensor, b: torch.Tensor, relative: float = 1e-12) -> None:
    assert a.shape == b.shape
    assert (a - b).abs().max() <= relative * b.abs().max()


@pytest.mark.parametrize("wrap", [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("rows", [1, 3, 100])
@torch.inference_mode()
def test_decode(wrap: tuple[bool, bool], rows: int) -> None:
    """In float64, so that nothing but the rounding of float64 is forgiven."""
    vae = build(TINY)
    set_tiling(vae, *wrap)
    latents = torch.randn(1, 4, 11, 8, dtype=torch.float64)
    same(decode_in_strips(vae, latents, rows=rows), vae.decode(latents))


@pytest.mark.parametrize("wrap", [(False, False), (True, True)])
@pytest.mark.parametrize("rows", [1, 5, 100])
@torch.inference_mode()
def test_encode(wrap: tuple[bool, bool], rows: int) -> None:
    vae = build(TINY)
    set_tiling(vae, *wrap)
    pixels = torch.rand(1, 3, 88, 64, dtype=torch.float64) * 2 - 1
    strips, whole = encode_in_strips(vae, pixels, rows=rows), vae.encode(pixels)
    same(strips.mean, whole.mean)
    same(strips.logvar, whole.logvar)


@pytest.mark.parametrize("rows", [3, 8])
@torch.inference_mode()
def test_float32(rows: int) -> None:
    """Wide enough for the faster kernels; both ways are measured against float64."""
    latents = torch.randn(1, 4, 20, 12, dtype=torch.float64)
    exact = build(WIDE).decode(latents)
    same(decode_in_strips(build(WIDE, torch.float32), latents, rows=rows), exact, 1e-5)
    same(build(WIDE, torch.float32).decode(latents), exact, 1e-5)


@torch.inference_mode()
def test_default_height_follows_the_width() -> None:
    vae = build(TINY)
    latents = torch.randn(1, 4, 9, 16, dtype=torch.float64)
    same(decode_in_strips(vae, latents), vae.decode(latents))


def test_strips_are_given_back_while_the_next_map_grows() -> None:
    strips = Strips.cut(
        torch.randn(1, 2, 12, 3),
        2,
        torch.device("cpu"),
    )
    held = []

    def change(number: int) -> torch.Tensor:
        held.append(sum(part is not None for part in strips._parts))
        return strips.window(number, 1, 1, wrap=False)[0]

    assert len(strips.mapped(change)) == 6
    assert held == [6, 6, 5, 4, 3, 2]
    with pytest.raises(AssertionError, match="given back"):
        strips.at(5)
