"""Group normalisation from channel moments against float64."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.engine.kernels import norm


@pytest.mark.parametrize("size", [(2, 1), (7, 5), (64, 64), (300, 200)])
@pytest.mark.parametrize("groups", [1, 4, 16])
def test_same_as_float64(size: tuple[int, int], groups: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = (torch.randn(2, 32, *size, generator=generator) * 3 + 7).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(32, generator=generator), torch.randn(32, generator=generator)
    affine = norm.group_affine(norm.moments(x), groups, weight, bias, 1e-5, silu=True)
    result = torch.empty_like(x)
    affine.apply(x.permute(0, 2, 3, 1), result.permute(0, 2, 3, 1), slice(0, 2))
    image = x.double().reshape(2, groups, -1)
    mean, variance = image.mean(-1, keepdim=True), image.var(-1, unbiased=False, keepdim=True)
    normed = ((image - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    expected = F.silu(normed * weight.double()[None, :, None, None] + bias.double()[None, :, None, None])
    assert (result - expected).abs().max() <= 2e-5 * max(1.0, float(expected.abs().max()))


def test_moments_of_parts_merge_into_those_of_the_whole() -> None:
    x = torch.randn(2, 6, 50, 9, generator=torch.Generator().manual_seed(2)).contiguous(memory_format=torch.channels_last)
    whole = norm.moments(x)
    merged = norm.moments(x[:, :, :13]).merge(norm.moments(x[:, :, 13:14])).merge(norm.moments(x[:, :, 14:]))
    assert merged.count == whole.count == 450
    torch.testing.assert_close(merged.mean, whole.mean, rtol=0, atol=1e-7)
    torch.testing.assert_close(merged.deviation, whole.deviation, rtol=1e-6, atol=0)
