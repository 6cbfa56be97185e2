"""3x3 convolution by Winograd's minimal filtering: a quarter of the multiplications, on channels-last float32.

A tile of 4x4 results of a 3x3 convolution depends on 6x6 inputs. Seen as the product of two polynomials evaluated at six
points per axis, it costs 36 multiplications per pair of channels in place of 144 (Winograd 1980; Lavin and Gray 2016,
"Fast algorithms for convolutional neural networks", F(4x4, 3x3)):

    result = A^T [ (G g G^T) * (B^T d B) ] A

Summed over input channels, the product in the middle is one matrix product for each of the 36 points, so nearly all the
work is done by `torch.bmm`, which runs at the speed of the machine's GEMM. The transforms of the input are additions on
whole slabs, that of the result is a product with a small matrix. They are made block by block, so that everything between
the reading of the input and the writing of the result stays in the cache. Around the convolution the block can be
normalised and activated before, and biased and added to after, without another pass over memory.

The operations are few and large on purpose: each one is a point where all threads wait for each other, and a thread that
another program has pushed aside for a moment is waited for by all.

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
"""Size of both transformed blocks together (18 MB): about what the last level of cache of common processors holds."""

_MIN_TILES = 128
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


def _result_matrix(like: Tensor) -> Tensor:
    """[16, 36]: A^T for rows and columns; from the values at the points (v, u) to the results (row, column) of a tile."""
    points = [0.0, 1.0, -1.0, _B, -_B]
    axis = torch.tensor([[point**power for point in points] + [float(power == 3)] for power in range(4)], dtype=torch.float64)
    return torch.einsum("yu,xv->yxvu", axis, axis).reshape(16, 36).to(like)


def _to_points(d: Tensor, out: Tensor, scratch: Tensor, signs: Tensor) -> None:
    """B^T along one axis.

    Args:
        d: six input slabs, [6, ...].
        out: [6, ...].
        scratch: [2, 2, ...] like slabs: the parts of the values at +-1 and at +-5/3 that are odd and even in the point.
        signs: [[1, -1], [5/3, -5/3]]: what the odd parts count.
    """
    torch.sub(d[3:5], d[1:3], alpha=_B2, out=scratch[0])
    torch.sub(d[3:5], d[1:3], out=scratch[1])
    odd, even = scratch[:, 0, None], scratch[:, 1, None]
    factors = signs.view(2, 2, *[1] * (d.dim() - 1))
    torch.addcmul(even, odd, factors, out=out[1:5].view(2, 2, *out.shape[1:]))
    torch.sub(d[2::3], d[0:4:3], alpha=_B2, out=out[0::5])
    torch.sub(scratch[0, 1], out[0], out=out[0])
    torch.sub(out[5], scratch[0, 0], out=out[5])


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
    line = _TILE * columns + 2
    left = max(36 * tiles * channels, 16 * tiles * out_channels, (_TILE * most + 2 * batch) * line * channels)
    right = max(36 * tiles * out_channels, 6 * most * line * channels)
    arena = _Arena(x, left, right, max(24 * tiles, 4 * most * line) * channels)
    signs, matrix = x.new_tensor([[1.0, -1.0], [_B, -_B]]), _result_matrix(x)
    for block in blocks:
        points = _input_points(image, block, columns, before, wrap, arena, signs)
        products = arena.take(1, 36, points.shape[1], out_channels)
        torch.bmm(points, weight.transpose(1, 2), out=products)
        if bias is not None:
            _add_bias(products, bias, block)
        tiled = arena.take(0, 16, products.shape[1] * out_channels)
        torch.mm(matrix, products.view(36, -1), out=tiled)
        _write(tiled, block, columns, result, added, arena)
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
    image: Tensor,
    block: _Block,
    columns: int,
    before: Affine | None,
    wrap: tuple[bool, bool],
    arena: _Arena,
    signs: Tensor,
) -> Tensor:
    """B^T d B for the tiles of a block of `image` [b, h, w, c] -> [36, tiles, c]."""
    padded = _padded(image, block, columns, before, wrap, arena)
    count, high, across, channels = padded.shape
    line = across * channels
    # Down first: the rows 4i + k of all tile rows i are slab k; nothing is gathered.
    slabs = padded.as_strided((_WINDOW, count, block.rows, line), (line, high * line, _TILE * line, 1))
    down = arena.take(1, _WINDOW, count, block.rows, line)
    _to_points(slabs, down, arena.take(2, 2, 2, count, block.rows, line), signs)
    # Then across: slab k has the columns 4j + k, of all six points at once.
    rows = count * block.rows
    slabs = down.as_strided((_WINDOW, _WINDOW, rows, columns, channels), (channels, rows * line, line, _TILE * channels, 1))
    points = arena.take(0, _WINDOW, _WINDOW, rows, columns, channels)
    _to_points(slabs, points, arena.take(2, 2, 2, _WINDOW, rows, columns, channels), signs)
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


def _write(tiled: Tensor, block: _Block, columns: int, result: Tensor, added: Tensor | None, arena: _Arena) -> None:
    """Put the tiles of a block [16, tiles * out] into their places in `result` [b, h, w, out], with what is added there."""
    _, height, width, out_channels = result.shape
    images = block.images.stop - block.images.start
    top, bottom = _TILE * block.row, min(_TILE * (block.row + block.rows), height)
    cells = tiled.view(_TILE, _TILE, images, block.rows, columns, out_channels).permute(2, 3, 0, 4, 1, 5)
    target = result[block.images, top:bottom]
    extra = None if added is None else added[block.images, top:bottom]
    if bottom - top < _TILE * block.rows or width < _TILE * columns:
        whole = arena.take(1, images, _TILE * block.rows, _TILE * columns, out_channels)
        whole.view(cells.shape).copy_(cells)
        inner = whole[:, : bottom - top, :width]
        target.copy_(inner) if extra is None else torch.add(inner, extra, out=target)
    elif extra is None:
        target.view(cells.shape).copy_(cells)
    else:
        torch.add(cells, extra.reshape(cells.shape), out=target.view(cells.shape))
