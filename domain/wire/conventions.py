"""The conventions of a producer that its messages do not tell: the zone of its times and the names of its tiers."""

from collections.abc import Iterable
from datetime import UTC, tzinfo
from typing import NamedTuple

TIERS = (
    *("intraday", "hourly", "daily", "weekly", "monthly", "combo", "daily_intraday"),
    *("1min", "5min", "15min", "30min", "1h", "4h", "1d", "1w"),
)
"""The tiers that the field ``source`` of a flat message may name, by default."""


class Conventions(NamedTuple):
    """The conventions by which messages are read.

    Attributes:
        timezone: The zone of times that name no zone.
        tiers: The known tiers, casefolded. The ``source`` of a flat message is a tier if it is one of them.
    """

    timezone: tzinfo = UTC
    tiers: frozenset[str] = frozenset(TIERS)

    @classmethod
    def of(cls, timezone: tzinfo, tiers: Iterable[str]) -> "Conventions":
        """Return the conventions with a zone and tiers in any case of letters."""
        return cls(timezone, frozenset(tier.casefold() for tier in tiers))


DEFAULT_CONVENTIONS = Conventions()
"""Times without a zone are in UTC, and the tiers are ``TIERS``."""
