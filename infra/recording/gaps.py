"""Gaps: times in which a recorder did not hear a way in. Redis keeps the latest gaps for health and status.

Whether other recorders listened during a gap is known only when they have written their next heartbeats. A gap is
therefore stored at once, in case its recorder ends, and corrected when the others are known.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from infra.heartbeats.heartbeats import read_liveness
from infra.redis.connections import RedisClient
from readapi.ports.operations import Gap

GAPS_KEY = "tickview:intake:gaps"
"""Redis stream of the gaps. An entry has the field ``gap`` with a JSON document."""

MAX_GAPS = 1_000
"""Highest number of gaps that are kept."""

GAPS_SHOWN = 10
"""Highest number of gaps that health and status show."""

OTHERS_SECONDS = 2.5
"""Seconds after a gap after which every other recorder that lives has written a heartbeat."""


@dataclass
class NewGap:
    """A gap that has just ended.

    Attributes:
        gap: The gap, as long as no other recorder is known to have listened.
        is_first: Whether the gap ended with the first subscription of its recorder. Such a gap is deleted if another
            recorder listened.
        ended: Moment of the end on the monotonic clock.
    """

    gap: Gap
    is_first: bool
    ended: float = field(default_factory=time.monotonic)
    _entry_id: Any = None

    def store(self, client: RedisClient) -> None:
        """Store the gap, unless it is stored. Raises RedisError."""
        if self._entry_id is None:
            self._entry_id = client.xadd(GAPS_KEY, {"gap": orjson.dumps(self.gap)}, maxlen=MAX_GAPS)

    def correct(self, client: RedisClient) -> bool | None:
        """Correct the stored gap by the recorders that have listened since its end.

        Returns:
            None while the others are not known. Then whether it is a gap.

        Raises:
            RedisError: Redis cannot be reached.
        """
        elapsed = time.monotonic() - self.ended
        if elapsed < OTHERS_SECONDS:
            return None
        ages = read_liveness(client, [self.gap.way])[self.gap.way].ages
        others = sum(1 for process, age in ages.items() if process != self.gap.recorder and age < elapsed)
        if others:
            with client.pipeline(transaction=True) as pipeline:
                pipeline.xdel(GAPS_KEY, self._entry_id)
                if not self.is_first:
                    gap = replace(self.gap, others=others)
                    pipeline.xadd(GAPS_KEY, {"gap": orjson.dumps(gap)}, maxlen=MAX_GAPS)
                pipeline.execute()
        return not (others and self.is_first)


def read_gaps(client: RedisClient) -> list[Gap]:
    """Read the latest gaps, the newest first. Raises RedisError."""
    entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", client.xrevrange(GAPS_KEY, count=GAPS_SHOWN))
    return [Gap(**orjson.loads(fields[b"gap"])) for _, fields in entries]
