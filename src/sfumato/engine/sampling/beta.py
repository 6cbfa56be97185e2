"""The quantile function of the Beta distribution, for the Beta schedule."""

from __future__ import annotations

import math

_EPSILON = 1e-16
_TINY = 1e-300


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz's method; converges fast below the mean."""
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    result = d
    for m in range(1, 1000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 + term * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + term / c
            c = c if abs(c) > _TINY else _TINY
            result *= c * d
        if abs(c * d - 1) < _EPSILON:
            break
    return result


def cdf(x: float, a: float, b: float) -> float:
    """The probability that a Beta(a, b) variable is at most `x`: the regularised incomplete beta function."""
    if x <= 0 or x >= 1:
        return float(x > 0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(log_front) * _fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _fraction(1 - x, b, a) / b


def quantile(p: float, a: float, b: float) -> float:
    """The value that a Beta(a, b) variable stays below with probability `p`, by bisection; accurate to about 1e-15.

    Args:
        p: from 0 to 1.
        a: first parameter, positive.
        b: second parameter, positive.
    """
    if p <= 0 or p >= 1:
        return float(p > 0)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if cdf(middle, a, b) < p:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
