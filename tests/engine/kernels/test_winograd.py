"""Winograd's convolution against the direct one in float64."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.engine.kernels import norm, winograd
from sfumato.engine.kernels.filters import FilterCache

RELATIVE = 1e-5


def tensors(batch: int, channels: int, out: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, channels, height, width, generator=generator).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(out, channels, 3, 3, generator=generator) / (9 * channels) ** 0.5
    return x, weight, torch.randn(out, generator=generator)


def reference(x: torch.Tensor, weight: torch.Tensor, wrap: tuple[bool, bool] = (False, False)) -> torch.Tensor:
    padded = F.pad(x.double(), (1, 1, 0, 0), mode="circular" if wrap[0] else "constant")
    padded = F.pad(padded, (0, 0, 1, 1), mode="circular" if wrap[1] else "constant")
    return F.conv2d(padded, weight.double())


def assert_close(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert (result - expected).abs().max() <= RELATIVE * expected.abs().max()


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 5), (8, 64), (17, 23), (64, 60), (130, 7)])
@pytest.mark.parametrize("channels", [(8, 8), (3, 7), (65, 130)])
@torch.inference_mode()
def test_any_size_and_width(size: tuple[int, int], channels: tuple[int, int]) -> None:
    x, weight, bias = tensors(2, *channels, *size)
    result = winograd.convolve(x, winograd.transform_weight(weight), bias)
    assert_close(result, reference(x, weight) + bias.double()[None, :, None, None])


@pytest.mark.parametrize("wrap", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("size", [(8, 8), (5, 6), (33, 20)])
@torch.inference_mode()
def test_edges_that_join(wrap: tuple[bool, bool], size: tuple[int, int]) -> None:
    x, weight, _ = tensors(1, 12, 9, *size)
    assert_close(winograd.convolve(x, winograd.transform_weight(weight), None, wrap=wrap), reference(x, weight, wrap))


@torch.inference_mode()
def test_many_blocks_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = tensors(3, 16, 24, 37, 41)
    filters = winograd.transform_weight(weight)
    whole = winograd.convolve(x, filters, bias)
    monkeypatch.setattr(winograd, "_BLOCK_FLOATS", 1)
    monkeypatch.setattr(winograd, "_MIN_TILES", 1)
    assert_close(winograd.convolve(x, filters, bias), whole.double())


@pytest.mark.parametrize("wrap", [(False, False), (True, True)])
@torch.inference_mode()
def test_norm_before_and_additions_after(wrap: tuple[bool, bool]) -> None:
    x, weight, _ = tensors(2, 32, 48, 22, 18)
    bias, residual = torch.randn(2, 48), torch.randn(2, 48, 22, 18)
    scale, shift = torch.randn(32), torch.randn(32)
    before = norm.group_affine(norm.moments(x), 8, scale, shift, 1e-5, silu=True)
    result = winograd.convolve(x, winograd.transform_weight(weight), bias, before=before, residual=residual, wrap=wrap)
    normed = F.silu(F.group_norm(x.double(), 8, scale.double(), shift.double(), 1e-5))
    assert_close(result, reference(normed, weight, wrap) + bias.double()[:, :, None, None] + residual.double())


@torch.inference_mode()
def test_offset_inputs_lose_no_accuracy() -> None:
    x, weight, _ = tensors(1, 64, 64, 32, 32)
    x = x.add(5.0)
    assert_close(winograd.convolve(x, winograd.transform_weight(weight), None), reference(x, weight))


@torch.inference_mode()
def test_weights_in_either_layout_and_plain_inputs() -> None:
    x, weight, bias = tensors(1, 24, 16, 12, 12)
    expected = winograd.convolve(x, winograd.transform_weight(weight), bias)
    laid_out = winograd.transform_weight(weight.contiguous(memory_format=torch.channels_last))
    assert torch.equal(winograd.convolve(x.contiguous(), laid_out, bias), expected)


@torch.inference_mode()
def test_input_is_not_changed() -> None:
    x, weight, bias = tensors(1, 16, 16, 16, 16)
    before = x.clone()
    winograd.convolve(x, winograd.transform_weight(weight), bias, residual=x)
    assert torch.equal(x, before)


def test_only_where_it_pays_and_without_gradients() -> None:
    x, weight, _ = tensors(1, 128, 128, 32, 32)
    assert not winograd.suits(x, weight)
    with torch.inference_mode():
        assert winograd.suits(x, weight)
        assert not winograd.suits(x[:, :, :8, :8], weight)
        assert not winograd.suits(x[:, :64], weight[:, :64])
        assert not winograd.suits(x.double(), weight.double())


@torch.inference_mode()
def test_kept_filters_are_the_same_and_bounded() -> None:
    _, weight, _ = tensors(1, 8, 8, 4, 4)
    size = winograd.transform_weight(weight).nbytes
    cache, none = FilterCache(size), FilterCache(size - 1)
    first = cache.get(weight)
    assert cache.get(weight) is first
    assert none.get(weight) is not none.get(weight)
    assert torch.equal(none.get(weight), first)
    cache.clear()
    assert cache.get(weight) is not first


def test_a_changed_weight_is_transformed_again() -> None:
    _, weight, _ = tensors(1, 8, 8, 4, 4)
    cache = FilterCache(2 * winograd.transform_weight(weight).nbytes)
    first = cache.get(weight)
    weight.mul_(2.0)
    assert torch.equal(cache.get(weight), 2.0 * first)
