"""Filters of 3x3 convolutions in the form that Winograd's algorithm multiplies with, kept for the length of a `with`."""

from __future__ import annotations

from torch import Tensor

from sfumato.engine.kernels.winograd import transform_weight


class FilterCache:
    """Transformed filters of the weights that were used, as long as they fit in a limit.

    A transformed filter is four times as large as the filter; making it anew costs a tenth of a convolution of many
    pixels and as much as one of few. So a sampling loop keeps those it uses and gives them back at its end. The results
    do not depend on what is kept.

    Args:
        limit: bytes to hold at most; what does not fit is made anew for each use.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._kept: dict[int, tuple[Tensor, int, Tensor]] = {}

    def get(self, weight: Tensor) -> Tensor:
        """`transform_weight` of this tensor as it is now."""
        version = 0 if weight.is_inference() else weight._version
        found = self._kept.pop(id(weight), None)
        if found is not None and found[1] == version:
            self._kept[id(weight)] = found
            return found[2]
        if found is not None:
            self._left += found[2].numel() * found[2].element_size()
        filters = transform_weight(weight)
        size = filters.numel() * filters.element_size()
        if size <= self._left:
            self._left -= size
            # The weight is held too, so that its id stays its own.
            self._kept[id(weight)] = (weight, version, filters)
        return filters

    def clear(self) -> None:
        """Forget everything, so that the memory is free even where the cache itself lives on."""
        self._kept.clear()
