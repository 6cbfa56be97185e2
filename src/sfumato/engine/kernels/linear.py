"""Linear maps of many rows through oneDNN, with what follows them fused in.

PyTorch sends a float32 `linear` to the vendor's GEMM. oneDNN's is some ten per cent faster on many rows once the weight is
in its blocked layout, and can apply GELU or a product on the way out. Laying the weight out anew for each call pays from a
few hundred rows on (they are the pixels of a map), so nothing is kept and nobody has to know. Where PyTorch was built without
oneDNN, or gradients are wanted, the plain operations do the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_MIN_ROWS = 256
"""Rows from which laying out the weight for one call pays."""


def _through_onednn(x: Tensor, weight: Tensor) -> bool:
    rows = x.numel() // max(x.shape[-1], 1)
    return (
        rows >= _MIN_ROWS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _laid_out(weight: Tensor, rows: int) -> Tensor:
    result: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return result


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., n] times `weight` [m, n] transposed, plus `bias` [m] -> [..., m]."""
    if not _through_onednn(x, weight):
        return F.linear(x, weight, bias)
    flat = x.reshape(-1, x.shape[-1])
    result: Tensor = torch.ops.mkldnn._linear_pointwise(flat, _laid_out(weight, flat.shape[0]), bias, "none", [], "")
    return result.view(*x.shape[:-1], -1)


def geglu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Gated linear unit with GELU (Shazeer 2020): [..., n] with `weight` [2m, n] and `bias` [2m] -> [..., m].

    The first half of the map is the value, the second the gate.
    """
    if bias is None or not _through_onednn(x, weight):
        value, gate = F.linear(x, weight, bias).chunk(2, dim=-1)
        return F.gelu(gate).mul_(value) if not torch.is_grad_enabled() else F.gelu(gate) * value
    flat = x.reshape(-1, x.shape[-1])
    weights = [_laid_out(half, flat.shape[0]) for half in weight.chunk(2)]
    value_bias, gate_bias = bias.chunk(2)
    gate = torch.ops.mkldnn._linear_pointwise(flat, weights[1], gate_bias, "gelu", [], "none")
    result: Tensor = torch.ops.mkldnn._linear_pointwise.binary(flat, gate, weights[0], value_bias, "mul")
    return result.view(*x.shape[:-1], -1)
