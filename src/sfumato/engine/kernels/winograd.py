"""3x3 convolution by Winograd's minimal filtering: a quarter of the multiplications, on channels-last float32.

A tile of 4x4 results of a 3x3 convolution depends on 6x6 inputs. Seen as the product of two polynomials evaluated at six
points per axis, it costs 36 multiplications per pair of channels in place of 144 (Winograd 1980; Lavin and Gray 2016,
"Fast algorithms for convolutional neural networks", F(4x4, 3x3)):

    result = A^T [ (G g G^T) * (B^T d B) ] A

Summed over input channels, the product in the middle is one matrix product for each of the 36 points, so nearly all the
work is done by `torch.bmm`, which runs at the speed of the machine's GEMM. The transforms are additions on whole slabs.
They are made block by block, so that everything between the reading of the input and the writing of the result stays in
the cache. Around the convolution the block can be normalised and activated before, and biased and added to after, without
another pass over memory.

The points are 0, 1, -1, 5/3, -5/3 and infinity. One pair must be +-1 to save multiplications; 5/3 then gives the smallest
error (about 2.4e-6 of the result's size, root mean square; the direct convolution has 2e-7, and the customary 2 gives
2.6e-6 with twice the largest error).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from sfumato.engine.kernels.norm import Affine

_POINT = Fraction(5, 3)
_B = float(_POINT)
_B2 = float(_POINT**2)
_B3 = float(_POINT**3)
_TILE = 4
_WINDOW = 6

_BLOCK_FLOATS = 4_500_000
"""Size of both transformed blocks together (18 MB): what the last level of cache of common processors holds."""

_MIN_TILES = 96
"""Tiles per block from which the matrix products are worth reading the weights for."""

_WORTHWHILE_TILES = 24
_WORTHWHILE_CHANNELS = 96


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether `x` [b, c, h, w] and `weight` [out, c, 3, 3] are better convolved here than directly.

    A fixed rule of the shapes rather than a race: the same request must give the same bits on every run. With few tiles all
    the time goes into the filters, which are four times as large here; with few channels, into the transforms.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or weight.dtype != torch.float32:
        return False
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    batch, _, height, width = x.shape
    tiles = batch * math.ceil(height / _TILE) * math.ceil(width / _TILE)
    return tiles >= _WORTHWHILE_TILES and min(weight.shape[:2]) >= _WORTHWHILE_CHANNELS


def transform_weight(weight: Tensor) -> Tensor:
    """G g G^T for every pair of channels: [out, in, 3, 3] -> [36, out, in], four times as large."""
    out_channels, channels = weight.shape[:2]
    filters = weight.permute(0, 2, 3, 1).reshape(out_channels, 9, channels)
    matrix = _filter_matrix().to(weight)
    result = weight.new_empty(_WINDOW * _WINDOW, out_channels, channels)
    step = max(1, _BLOCK_FLOATS // 8 // (36 * channels))
    for start in range(0, out_channels, step):
        rows = slice(start, start + step)
        result[:, rows].copy_(torch.matmul(matrix, filters[rows]).transpose(0, 1))
    return result


def _filter_matrix() -> Tensor:
    """[36, 9]: the map from a 3x3 filter to its values at the 36 pairs of points (column's point first)."""
    points = [Fraction(0), Fraction(1), Fraction(-1), _POINT, -_POINT]
    rows = []
    for point in points:
        scale = math.prod(point - other for other in points if other != point)
        rows.append([float(point**power / scale) for power in range(3)])
    rows.append([0.0, 0.0, 1.0])
    axis = torch.tensor(rows, dtype=torch.float64)
    # Rows are numbered (v, u): v across, u down. Columns (r, s) are the filter's rows and columns.
    return torch.einsum("ur,vs->vurs", axis, axis).reshape(36, 9)


def _to_points(d: list[Tensor], out: Tensor, scratch: Tensor) -> None:
    """B^T along one axis: six input slabs `d` -> `out` [6, ...]; `scratch` [2, ...] like one slab."""
    p, q = scratch[0], scratch[1]
    torch.sub(d[4], d[2], alpha=_B2, out=out[0])
    torch.sub(d[3], d[1], alpha=_B2, out=out[5])
    torch.add(out[0], out[5], out=out[1])
    torch.sub(out[0], out[5], out=out[2])
    torch.sub(d[4], d[2], out=p)
    torch.sub(d[3], d[1], out=q)
    torch.add(p, q, alpha=_B, out=out[3])
    torch.sub(p, q, alpha=_B, out=out[4])
    torch.sub(d[2], d[0], alpha=_B2, out=p)
    torch.sub(d[5], d[3], alpha=_B2, out=q)
    torch.sub(out[0], p, out=out[0])
    torch.sub(q, out[5], out=out[5])


def _from_points(m: Tensor, out: list[Tensor], scratch: Tensor) -> None:
    """A^T along one axis: `m` [6, ...], which is overwritten -> four result slabs; `scratch` like one slab of `m`."""
    torch.sub(m[1], m[2], out=scratch)
    m[1].add_(m[2])
    torch.sub(m[3], m[4], out=m[2])
    m[3].add_(m[4])
    m[0].add_(m[1])
    torch.add(m[0], m[3], out=out[0])
    torch.add(scratch, m[2], alpha=_B, out=out[1])
    torch.add(m[1], m[3], alpha=_B2, out=out[2])
    scratch.add_(m[2], alpha=_B3)
    torch.add(scratch, m[5], out=out[3])


@dataclass(frozen=True, slots=True)
class _Block:
    """A group of tiles that is computed at once: whole rows of tiles of one picture, or several whole pictures."""

    images: slice
    row: int
    rows: int


def _blocks(batch: int, rows: int, columns: int, channels: int) -> Iterator[_Block]:
    """Cut `batch` pictures of `rows` x `columns` tiles; `channels` is the sum of those before and after."""
    tiles = max(_MIN_TILES, _BLOCK_FLOATS // (36 * channels))
    images = max(1, min(batch, tiles // (rows * columns)))
    step = max(1, min(rows, tiles // columns)) if images == 1 else rows
    step = math.ceil(rows / math.ceil(rows / step))
    for first in range(0, batch, images):
        for row in range(0, rows, step):
            yield _Block(slice(first, min(first + images, batch)), row, min(step, rows - row))


class _Arena:
    """Memory for the stages of one block; each stage reads one half and writes the other."""

    def __init__(self, like: Tensor, left: int, right: int, scratch: int) -> None:
        self._parts = [like.new_empty(size) for size in (left, right, scratch)]

    def take(self, part: int, *shape: int) -> Tensor:
        """The start of one part as a tensor of this shape."""
        return self._parts[part][: math.prod(shape)].view(shape)


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    before: Affine | None = None,
    residual: Tensor | None = None,
    wrap: tuple[bool, bool] = (False, False),
) -> Tensor:
    """3x3 convolution of stride 1 with a border of one pixel.

    Args:
        x: [b, c, h, w], float32; read without a copy if it is channels-last.
        weight: `transform_weight` of the filters, [36, out, c].
        bias: [out], or one per picture [b, out].
        before: applied to `x` first; the border comes after it.
        residual: [b, out, h, w], added to the result.
        wrap: whether the border is the opposite edge (across, down) rather than zeros.

    Returns:
        [b, out, h, w], channels-last.
    """
    batch, channels, height, width = x.shape
    out_channels = weight.shape[1]
    image = x.permute(0, 2, 3, 1)
    added = None if residual is None else residual.permute(0, 2, 3, 1)
    result = x.new_empty(batch, height, width, out_channels)
    rows, columns = math.ceil(height / _TILE), math.ceil(width / _TILE)
    blocks = list(_blocks(batch, rows, columns, channels + out_channels))
    most = max((b.images.stop - b.images.start) * b.rows for b in blocks)
    tiles = most * columns
    across = _TILE * columns + 2
    left = max(36 * tiles * channels, 24 * tiles * out_channels, (_TILE * most + 2 * batch) * across * channels)
    right = max(36 * tiles * out_channels, 6 * most * across * channels)
    arena = _Arena(x, left, right, max(12 * tiles * channels, 2 * most * across * channels, 6 * tiles * out_channels))
    for block in blocks:
        points = _input_points(image, block, columns, before, wrap, arena)
        products = arena.take(1, 36, points.shape[1], out_channels)
        torch.bmm(points, weight.transpose(1, 2), out=products)
        if bias is not None:
            _add_bias(products, bias, block)
        _write(products, block, columns, result, arena)
        if added is not None:
            part = (block.images, slice(_TILE * block.row, _TILE * (block.row + block.rows)))
            result[part].add_(added[part])
    return result.permute(0, 3, 1, 2)


def _add_bias(products: Tensor, bias: Tensor, block: _Block) -> None:
    """Add the bias where the whole tile gets it for a 36th of the work: the point (1, 1) counts once in every result."""
    at_one = products[7]
    if bias.dim() == 2:
        chosen = bias[block.images]
        at_one.view(chosen.shape[0], -1, at_one.shape[-1]).add_(chosen[:, None])
    else:
        at_one.add_(bias)


def _input_points(
    image: Tensor, block: _Block, columns: int, before: Affine | None, wrap: tuple[bool, bool], arena: _Arena
) -> Tensor:
    """B^T d B for the tiles of a block of `image` [b, h, w, c] -> [36, tiles, c]."""
    padded = _padded(image, block, columns, before, wrap, arena)
    count, high, across, channels = padded.shape
    line = across * channels
    # Down first: the rows 4i + k of all tile rows i are one slab; nothing is gathered.
    slabs = [
        padded.as_strided((count, block.rows, line), (high * line, _TILE * line, 1), padded.storage_offset() + k * line)
        for k in range(_WINDOW)
    ]
    down = arena.take(1, _WINDOW, count, block.rows, line)
    _to_points(slabs, down, arena.take(2, 2, count, block.rows, line))
    # Then across: columns 4j + k, of all six points at once.
    down = down.view(_WINDOW, count * block.rows, across, channels)
    slabs = [down[:, :, k : k + _TILE * columns - 3 : _TILE] for k in range(_WINDOW)]
    shape = (_WINDOW, count * block.rows, columns, channels)
    points = arena.take(0, _WINDOW, *shape)
    _to_points(slabs, points, arena.take(2, 2, *shape))
    return points.view(36, -1, channels)


def _padded(image: Tensor, block: _Block, columns: int, before: Affine | None, wrap: tuple[bool, bool], arena: _Arena) -> Tensor:
    """The input rows of a block with their border, in whole tiles: [images, 4 rows + 2, 4 columns + 2, c]."""
    _, height, width, channels = image.shape
    source = image[block.images]
    high, across = _TILE * block.rows + 2, _TILE * columns + 2
    padded = arena.take(0, source.shape[0], high, across, channels)
    top = _TILE * block.row - 1
    pieces = [(max(top, 0), min(top + high, height))]
    if wrap[1]:
        pieces += [(y, y + 1) for y in (-1, height) if top <= y < top + high]
    filled = [False] * high
    for start, stop in pieces:
        target = padded[:, start - top : stop - top, 1 : width + 1]
        wanted = source[:, start % height : start % height + stop - start]
        if before is None:
            target.copy_(wanted)
        else:
            before.apply(wanted, target, block.images)
        filled[start - top : stop - top] = [True] * (stop - start)
    padded[:, :, 0] = padded[:, :, width] if wrap[0] else 0.0
    padded[:, :, width + 1 :] = 0.0
    if wrap[0]:
        padded[:, :, width + 1] = padded[:, :, 1]
    for y, done in enumerate(filled):
        if not done:
            padded[:, y] = 0.0
    return padded


def _write(products: Tensor, block: _Block, columns: int, result: Tensor, arena: _Arena) -> None:
    """A^T m A for the tiles of a block, written to their place in `result` [b, h, w, out]."""
    out_channels = products.shape[-1]
    tiles = products.shape[1]
    _, height, width, _ = result.shape
    images = block.images.stop - block.images.start
    across = arena.take(0, _TILE, _WINDOW, tiles, out_channels)
    _from_points(products.view(_WINDOW, _WINDOW, tiles, out_channels), list(across), arena.take(2, _WINDOW, tiles, out_channels))
    top, bottom = _TILE * block.row, min(_TILE * (block.row + block.rows), height)
    target = result[block.images, top:bottom]
    whole = bottom - top == _TILE * block.rows and width == _TILE * columns
    if not whole:
        target = arena.take(1, images, _TILE * block.rows, _TILE * columns, out_channels)
    cells = target.view(images, block.rows, _TILE, columns, _TILE, out_channels)
    slabs = [cells[:, :, y].permute(3, 0, 1, 2, 4) for y in range(_TILE)]
    m = across.view(_TILE, _WINDOW, images, block.rows, columns, out_channels).transpose(0, 1)
    _from_points(m, slabs, arena.take(2, _TILE, images, block.rows, columns, out_channels))
    if not whole:
        result[block.images, top:bottom] = target[:, : bottom - top, :width]
