"""The expected effect of the scan's bounds, read from the texts of the parameters, row by row."""

from collections.abc import Mapping
from math import inf

from projections.patterns import PatternRow

_SCALES = {
    "confidence_min": ("confidence", 0, 1),
    "rs_min": ("relative_strength", 0, inf),
    "vol_min": ("relative_volume", 0, inf),
    "rsi_range": ("rsi", 0, 100),
}
"""Parameter -> the field of a row, and the ends of its scale."""


def passes(row: PatternRow, parameters: Mapping[str, str]) -> bool:
    """Return whether a row passes every bound. A bound at an end of its scale excludes no row."""
    return all(_passes(row, parameter, text) for parameter, text in parameters.items())


def _passes(row: PatternRow, parameter: str, text: str) -> bool:
    field, start, end = _SCALES[parameter]
    lowest, *rest = map(float, text.split(","))
    highest = rest[0] if rest else inf
    value = getattr(row, field)
    if lowest > start and (value is None or value < lowest):
        return False
    return not (highest < end and (value is None or value > highest))
