"""The numbers that the platform shows for a pattern whose message has no indicators. Its filters compare them, too."""

from collections.abc import Mapping

from readapi.read_models.filter_parameters import AS_THEY_ARE

SHOWN_VALUES: Mapping[str, float] = {"relative_strength": 1.0, "relative_volume": 1.0, "rsi": 50.0}
"""Column of a pattern -> the number that is shown where a pattern has none."""


def shown_values(compatibility: str | None) -> Mapping[str, float]:
    """Return the numbers that answers show, and filters compare, where a pattern has none.

    Args:
        compatibility: The setting ``TICKVIEW_COMPATIBILITY``.
    """
    return AS_THEY_ARE if compatibility is None else SHOWN_VALUES
