"""Freshness of the read models in an API process: the time since Redis last answered."""

import time

from infra.processes.outage import OutageLog

SILENCE_SECONDS = 2.0
"""Seconds without an answer after which Redis counts as unavailable. The follower reads Redis twice a second."""


class RedisFreshness:
    """The last contact of the changes follower with Redis. Implements ``Freshness``."""

    def __init__(self) -> None:
        self._outage = OutageLog("changes cannot be read", "changes are read again")
        self.begin()

    def begin(self) -> None:
        """Start the measurement in this process. Until the first contact, the time counts from now."""
        self._contact_at = time.monotonic()

    def age(self) -> float | None:
        """Return the seconds since the last contact if Redis is unavailable, else None."""
        seconds = time.monotonic() - self._contact_at
        return seconds if self._outage.is_failing or seconds > SILENCE_SECONDS else None

    def answered(self) -> None:
        """Note that Redis has answered."""
        self._outage.recovered()
        self._contact_at = time.monotonic()

    def failed(self, error: Exception) -> None:
        """Note that Redis could not be reached."""
        self._outage.failed(error)
