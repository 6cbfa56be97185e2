"""Comparison of numbers by the tolerance that a file of vectors states."""

import numpy as np


def assert_close(got, expected, tolerance: dict) -> None:
    """|got - expected| <= abs + rel * |expected|, for numbers or (nested) lists of them of the same shape."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape
    excess = np.abs(got - expected) - (tolerance.get("abs", 0.0) + tolerance.get("rel", 0.0) * np.abs(expected))
    assert excess.size == 0 or excess.max() <= 0, f"off by {np.abs(got - expected).max()}"
