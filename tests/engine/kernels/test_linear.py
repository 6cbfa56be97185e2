"""Linear maps through oneDNN against float64, and where they step aside."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.engine.kernels import linear as kernel


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def assert_close(result: torch.Tensor, expected: torch.Tensor) -> None:
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("rows", [1, 77, 128, 4096])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_linear(rows: int, bias: bool) -> None:
    x, weight = torch.randn(2, rows, 24), torch.randn(40, 24)
    added = torch.randn(40) if bias else None
    expected = F.linear(x.double(), weight.double(), None if added is None else added.double())
    assert_close(kernel.linear(x, weight, added), expected)


@pytest.mark.parametrize("rows", [3, 2048])
@torch.inference_mode()
def test_geglu(rows: int) -> None:
    x, weight, bias = torch.randn(1, rows, 24), torch.randn(80, 24), torch.randn(80)
    value, gate = F.linear(x.double(), weight.double(), bias.double()).chunk(2, dim=-1)
    assert_close(kernel.geglu(x, weight, bias), value * F.gelu(gate))


def test_gradients_take_the_plain_way() -> None:
    x, weight, bias = torch.randn(2048, 8), torch.randn(16, 8, requires_grad=True), torch.randn(16)
    kernel.linear(x, weight, bias).sum().backward()
    assert weight.grad is not None
    weight.grad = None
    kernel.geglu(x, weight, bias).sum().backward()
    assert weight.grad is not None


@torch.inference_mode()
def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = torch.randn(2048, 8), torch.randn(16, 8), torch.randn(16)
    expected = kernel.geglu(x, weight, bias), kernel.linear(x, weight, bias)
    monkeypatch.setattr(kernel, "_through_onednn", lambda *_: False)
    assert_close(kernel.geglu(x, weight, bias), expected[0])
    assert_close(kernel.linear(x, weight, bias), expected[1])
