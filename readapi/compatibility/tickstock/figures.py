"""Figures of an API process that the platform shows: requests, answers from memory, and probes of the servers."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from projections.patterns import PatternRow
from projections.queries import Query, RowQueries
from readapi.http.read_model import ReadModel
from readapi.patterns.answer_cache import CachedPatternResource
from readapi.ports.operations import Operations, ServerStatus

SLOW_SECONDS = 0.01
"""Seconds from which a probe of Redis is slow."""

TARGETS = {"api_response_time_ms": 50, "websocket_latency_ms": 100, "cache_hit_ratio": 0.7}
"""The platform's targets."""


class PatternFigures(NamedTuple):
    """Figures of the active patterns.

    ``events`` is the number of events that the read model has folded. ``last_event_time`` is the time of the latest
    detection in epoch seconds, or None without active patterns.
    """

    cached_patterns: int
    events_processed: int
    last_event_time: float | None


class Figures:
    """The figures of this process since its start.

    Args:
        patterns: The read model of the active patterns.
        operations: The status of the servers.
        cached: The resources that cache answers.
        clock: Returns the time in epoch seconds.
    """

    def __init__(
        self,
        patterns: ReadModel[RowQueries[PatternRow]],
        operations: Operations,
        cached: Sequence[CachedPatternResource],
        clock: Callable[[], float],
    ) -> None:
        self._patterns = patterns
        self._operations = operations
        self._cached = cached
        self._clock = clock
        self._started = clock()
        self._requests, self._seconds = 0, 0.0
        self._probes, self._failed, self._slow, self._probe_seconds = 0, 0, 0, 0.0
        self.hits, self.misses = 0, 0
        """Numbers of answers about patterns from memory, and from another store."""

    def note_request(self, seconds: float) -> None:
        """Count a request and its duration."""
        self._requests += 1
        self._seconds += seconds

    def note_source(self, source: Any) -> None:
        """Count the store that answered a request for patterns."""
        if source == "replica":
            self.hits += 1
        elif source is not None:
            self.misses += 1

    @property
    def hit_ratio(self) -> float:
        """Share of the answers about patterns that came from memory, from 0 to 1."""
        answers = self.hits + self.misses
        return round(self.hits / answers, 4) if answers else 0.0

    async def of_patterns(self) -> PatternFigures:
        """Return the figures of the active patterns."""
        live, now = self._patterns.live, self._clock()
        total = (await live.queries.counts(("all",), now))["all"].total
        latest = await live.queries.page(Query(now, sort_by="detected_at", descending=True, limit=1))
        latest_time = latest.rows[0].row.detected_at if latest.rows else None
        return PatternFigures(total, sum(live.positions.values()), latest_time)

    async def servers(self) -> dict[str, ServerStatus]:
        """Probe the servers, and count the probe of Redis."""
        began = time.perf_counter()
        servers = dict(await self._operations.servers())
        seconds = time.perf_counter() - began
        self._probes += 1
        self._failed += not servers["redis"].up
        self._slow += seconds > SLOW_SECONDS
        self._probe_seconds += seconds
        return servers

    def cache(self, patterns: PatternFigures) -> dict[str, Any]:
        """Return the figures that the platform has of its cache of patterns."""
        return {
            "cached_patterns": patterns.cached_patterns,
            "cache_hits": self.hits,
            "cache_misses": self.misses,
            "cache_hit_ratio": self.hit_ratio,
            "events_processed": patterns.events_processed,
            "last_event_time": patterns.last_event_time,
            "api_response_cache_size": sum(resource.cached_answers for resource in self._cached),
        }

    def performance(self) -> dict[str, Any]:
        """Return the durations of requests, and of the probes of Redis."""
        return {
            "runtime_seconds": round(self._clock() - self._started, 3),
            "requests_processed": self._requests,
            "average_response_time_ms": _milliseconds(self._seconds, self._requests),
            "targets": TARGETS,
            "redis_performance": {
                "total_commands": self._probes,
                "avg_response_time_ms": _milliseconds(self._probe_seconds, self._probes),
                "slow_commands": self._slow,
                "success_rate": round(1 - self._failed / self._probes, 4) if self._probes else 1.0,
            },
        }


def _milliseconds(seconds: float, count: int) -> float:
    return round(seconds * 1_000 / count, 3) if count else 0.0
