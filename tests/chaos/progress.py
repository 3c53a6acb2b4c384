"""The progress of recording, folding and archiving, as the oracle reads it from the servers, and its stalls.

Every run has a stall that the experiment causes. The oracle finds it in the same way as stalls by other faults.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import TupleRow

from tests.chaos.oracle import LOGS, STALL_SECONDS, Stall
from tests.chaos.producers import STREAM
from tests.chaos.redis_servers import SERVER_ERRORS


class Work(NamedTuple):
    """The work of a role at one moment."""

    done: int
    """Number of entries or events that the role has processed."""
    waiting: int
    """Number of entries or events that the role has still to process."""


class Progress(NamedTuple):
    """The work of all roles at one moment. A work is missing while its server does not answer."""

    moment: float
    """Monotonic time."""
    works: Mapping[str, Work]
    """Role, and the log if the role works on each log alone -> work."""


def stalls_of(samples: Sequence[Progress]) -> list[Stall]:
    """Return the stalls that took longer than ``STALL_SECONDS``."""
    return [
        stall
        for name in sorted({name for sample in samples for name in sample.works})
        for stall in _stalls(name, [(moment, works[name]) for moment, works in samples if name in works])
        if stall.seconds > STALL_SECONDS
    ]


def _stalls(name: str, samples: Sequence[tuple[float, Work]]) -> Iterator[Stall]:
    began: float | None = None
    done, last = 0, 0.0
    for moment, work in samples:
        if began is not None and (work.done != done or not work.waiting):
            yield Stall(name, began, last)
            began = None
        if began is None and work.waiting:
            began, done = moment, work.done
        last = moment
    if began is not None:
        yield Stall(name, began, last)


def take_progress(redis: Any, postgres_dsn: str) -> Progress:
    """Read the progress of all roles."""
    works: dict[str, Work] = {}
    moment = time.monotonic()
    with suppress(*SERVER_ERRORS):
        recorded = _last_positions(redis)
        works |= {"record": _recording(redis)}
        works |= {f"project {log}": work for log, work in _folding(redis, recorded).items()}
        with suppress(psycopg.Error):
            works |= {f"archive {log}": work for log, work in _archiving(postgres_dsn, recorded).items()}
    return Progress(moment, works)


def _last_positions(redis: Any) -> dict[str, int]:
    entries: list[Any] = [redis.xrevrange(f"tickview:{{{log}}}:log", count=1) for log in LOGS]
    return {log: int(found[0][0].split(b"-")[0]) for log, found in zip(LOGS, entries, strict=True) if found}


def _recording(redis: Any) -> Work:
    if not redis.exists(STREAM):
        return Work(0, 0)
    stream: Any = redis.xinfo_stream(STREAM)
    return Work(stream["entries-added"] - stream["length"], stream["length"])


def _folding(redis: Any, recorded: Mapping[str, int]) -> dict[str, Work]:
    versions: Any = redis.get("tickview:{patterns}:versions")
    build = json.loads(versions or b"{}").get("live")
    checkpoints: dict[str, Any] = {
        log: redis.hget(f"tickview:{{patterns/{log}}}:{build}:state", "checkpoint") for log in recorded
    }
    return {log: Work(int(done or 0), recorded[log] - int(done or 0)) for log, done in checkpoints.items()}


def _archiving(dsn: str, recorded: Mapping[str, int]) -> dict[str, Work]:
    with psycopg.connect(dsn, connect_timeout=2, options="-c statement_timeout=2000") as connection:
        rows: list[TupleRow] = connection.execute(
            "SELECT log, max(position) FROM tickview.events GROUP BY log"
        ).fetchall()
    archived = dict(rows)
    return {log: Work(archived.get(log, 0), last - archived.get(log, 0)) for log, last in recorded.items()}
