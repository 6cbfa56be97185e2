"""Layers: padding and tiling, memory format, building without memory."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.engine.models.layers import Conv2d, GroupNorm, TokenConv, pad, set_tiling, timestep_embedding, to_image, to_tokens


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def channels_last(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("wrap", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_tiled_convolution_is_one_over_a_wrapped_picture(wrap, stride):
    conv = Conv2d(3, 8, stride=stride, padding=1)
    set_tiling(conv, *wrap)
    x = channels_last(2, 3, 8, 6)
    by_hand = F.pad(x, (1, 1, 0, 0), mode="circular" if wrap[0] else "constant")
    by_hand = F.pad(by_hand, (0, 0, 1, 1), mode="circular" if wrap[1] else "constant")
    want = F.conv2d(by_hand, conv.weight, conv.bias, stride)
    torch.testing.assert_close(conv(x), want)


def test_tiling_makes_a_convolution_blind_to_where_the_edge_is():
    conv = Conv2d(3, 4)
    x = channels_last(1, 3, 8, 8)
    set_tiling(conv, True, True)
    torch.testing.assert_close(conv(x.roll((3, 5), (2, 3))), conv(x).roll((3, 5), (2, 3)))
    set_tiling(conv, False, False)
    assert not torch.allclose(conv(x.roll((3, 5), (2, 3))), conv(x).roll((3, 5), (2, 3)))
    torch.testing.assert_close(conv(x), F.conv2d(x, conv.weight, conv.bias, padding=1))


def test_padding_may_differ_per_side_and_still_wrap():
    conv = Conv2d(3, 4, stride=2, padding=(0, 1, 0, 1))
    x = channels_last(1, 3, 8, 6)
    torch.testing.assert_close(conv(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), conv.weight, conv.bias, 2))
    set_tiling(conv, True, True)
    wrapped = torch.cat([torch.cat([x, x[..., :1]], dim=3), torch.cat([x, x[..., :1]], dim=3)[:, :, :1]], dim=2)
    torch.testing.assert_close(conv(x), F.conv2d(wrapped, conv.weight, conv.bias, 2))


@pytest.mark.parametrize("wrap", [(False, False), (True, True)])
def test_padding_keeps_the_memory_format(wrap):
    assert pad(channels_last(2, 5, 7, 6), (1, 1, 1, 1), wrap).is_contiguous(memory_format=torch.channels_last)


def test_norm_and_activation_are_one_module():
    norm, plain = GroupNorm(4, 8, silu=True), GroupNorm(4, 8)
    x = channels_last(2, 8, 3, 3)
    before = x.clone()
    torch.testing.assert_close(norm(x), F.silu(plain(x)))
    assert torch.equal(x, before)
    assert norm(x).is_contiguous(memory_format=torch.channels_last)


def test_tokens_are_views_of_channels_last_features():
    x = channels_last(2, 5, 3, 4)
    tokens = to_tokens(x)
    assert tokens.data_ptr() == x.data_ptr()
    back = to_image(tokens, 3, 4)
    assert back.data_ptr() == x.data_ptr()
    assert torch.equal(back, x)
    assert back.is_contiguous(memory_format=torch.channels_last)


def test_a_token_convolution_is_a_1x1_convolution():
    layer = TokenConv(5, 7)
    x = channels_last(2, 5, 3, 4)
    torch.testing.assert_close(to_image(layer(to_tokens(x)), 3, 4), F.conv2d(x, layer.weight, layer.bias))


def test_timesteps_become_cosines_then_sines():
    embedding = timestep_embedding(torch.tensor([0.0, 1.5, 999.0]), 7)
    assert embedding.shape == (3, 7)
    assert embedding.dtype == torch.float32
    torch.testing.assert_close(embedding[0], torch.tensor([1.0, 1, 1, 0, 0, 0, 0]))
    torch.testing.assert_close(embedding[1, 0], torch.tensor(1.5).cos())
    torch.testing.assert_close(embedding[1, 5], (torch.tensor(1.5) * 10000 ** (-2 / 3)).sin())
    assert torch.equal(timestep_embedding(torch.tensor([999]), 7)[0], embedding[2])


def test_training_goes_through_every_layer():
    """In-place arithmetic must not destroy what the gradients need."""
    conv, norm = Conv2d(4, 8), GroupNorm(4, 8, silu=True)
    x = channels_last(1, 4, 6, 6).requires_grad_()
    norm(conv(x)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in (x, *conv.parameters(), *norm.parameters()))


@pytest.mark.parametrize("silu", [False, True])
def test_a_norm_over_many_pixels_is_as_exact_as_one_over_few(silu):
    """A sum of a million values in float32 is not: its error grows with the picture."""
    norm = GroupNorm(2, 8, silu=silu)
    x = channels_last(1, 8, 512, 512) * 3 + 2
    with torch.inference_mode():
        want = norm.double()(x.double())
        norm.float()
        assert float((norm(x) - want).abs().max()) < 5e-6
        assert float((norm(x[..., :16, :16]) - norm.double()(x[..., :16, :16].double())).abs().max()) < 5e-6
