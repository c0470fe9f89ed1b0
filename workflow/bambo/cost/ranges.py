"""Figures that are known as a range."""

from typing import Any, NamedTuple


class Range(NamedTuple):
    """From the shortest answers to the longest."""

    low: float
    high: float

    def __mul__(self, factor: Any) -> "Range":
        return Range(self.low * factor, self.high * factor)

    def __add__(self, other: Any) -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def under(self, most: float) -> "Range":
        return Range(min(self.low, most), min(self.high, most))


def number(value: float | Range, digits: int = 0) -> str:
    """1,234 or 1,234 - 5,678."""
    if isinstance(value, Range):
        low, high = number(value.low, digits), number(value.high, digits)
        return low if low == high else f"{low} - {high}"
    return f"{value:,.{digits}f}"
