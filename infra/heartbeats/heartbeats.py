"""The heartbeats of all processes in Redis: who is alive in a role, and who hears each way in.

A heartbeat has the age of the slowest thread behind it. A process that runs, but has a thread that hangs or fails,
therefore counts as stalled and not as alive.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from infra.heartbeats.progress import Progress
from infra.processes.outage import OutageLog
from infra.redis.cluster import run_by_node
from infra.redis.connections import RedisClient
from infra.redis.functions import Argument, command, with_functions
from readapi.ports.operations import ALIVE_SECONDS, Liveness

KEPT_SECONDS = 86_400
"""Seconds after which the heartbeat of a process that has ended is forgotten."""

ERROR_LENGTH = 300
"""Highest number of characters of a stored error."""

Threads = Callable[[], Iterable[Progress]]
"""Returns the progress of the threads behind a heartbeat. No thread: the process has no such heartbeat now."""


class Heartbeats:
    """The heartbeats of one process.

    Args:
        client: The client of the server that holds the heartbeats.
        process: A name that no other process has.
        threads: The threads behind each heartbeat, by the name of a role or of a way in.
    """

    def __init__(self, client: RedisClient, process: str, threads: Mapping[str, Threads]) -> None:
        self._client = client
        self._process = process
        self._threads = threads
        self._outage = OutageLog("heartbeats not written", "heartbeats written again")

    def beat(self) -> None:
        """Write the heartbeats in one round trip. While Redis is unavailable, none are written."""
        commands = [
            command("heartbeat", _Keys.of(name), (self._process, *beat, KEPT_SECONDS * 1_000))
            for name, threads in self._threads.items()
            if (beat := _beat(list(threads())))
        ]

        def write() -> None:
            with self._client.pipeline(transaction=False) as pipeline:
                for each in commands:
                    pipeline.execute_command(*each)
                pipeline.execute()

        try:
            with_functions(self._client, write)
            self._outage.recovered()
        except RedisError as error:
            self._outage.failed(error)

    def withdraw(self, *names: str) -> None:
        """Remove heartbeats of this process, because it ends in order."""
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                for keys in map(_Keys.of, names):
                    pipeline.zrem(keys.moments, self._process)
                    pipeline.hdel(keys.errors, self._process)
                pipeline.execute()
        except RedisError as error:
            self._outage.failed(error)


def _beat(progresses: Sequence[Progress]) -> tuple[Argument, Argument] | None:
    """Return the age in milliseconds and the error of the slowest thread, or None for no heartbeat.

    The age is empty if a thread has never done its work. While it may still begin, there is no heartbeat.
    """
    if not progresses:
        return None
    slowest = max(progresses, key=lambda progress: (not progress.has_begun, progress.age))
    if slowest.has_begun:
        return round(slowest.age * 1_000), slowest.error[:ERROR_LENGTH]
    return ("", slowest.error[:ERROR_LENGTH]) if slowest.age > ALIVE_SECONDS else None


def read_liveness(client: RedisClient, names: Sequence[str]) -> dict[str, Liveness]:
    """Read the heartbeats of roles and ways in, in one round trip per server.

    The clock of a server tells the age of the heartbeats that it has.
    """
    keys_by_moments = {keys.moments: keys for keys in map(_Keys.of, names)}

    def read(server: Redis, held: Sequence[str]) -> dict[str, Liveness]:
        with server.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for moments in held:
                pipeline.zrange(moments, 0, -1, withscores=True)
                pipeline.hgetall(keys_by_moments[moments].errors)
            (seconds, microseconds), *replies = pipeline.execute()
        now = seconds + microseconds / 1_000_000
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return {key: _liveness(now, moments, errors) for key, (moments, errors) in zip(held, pairs, strict=True)}

    read_heartbeats = run_by_node(client, list(keys_by_moments), read)
    return dict(zip(names, map(read_heartbeats.__getitem__, keys_by_moments), strict=True))


def _liveness(now: float, moments: Sequence[tuple[bytes, float]], errors: Mapping[bytes, bytes]) -> Liveness:
    ages = {process.decode(): max(0.0, now - milliseconds / 1_000) for process, milliseconds in moments}
    stalled: dict[str, str] = {}
    for process, description in errors.items():
        written, _, error = description.decode(errors="replace").partition(" ")
        runs = now - int(written) / 1_000 <= ALIVE_SECONDS
        if runs and ages.get(process.decode(), ALIVE_SECONDS + 1) > ALIVE_SECONDS:
            stalled[process.decode()] = error
    return Liveness(ages=ages, stalled=stalled)


class _Keys(NamedTuple):
    """The keys of one heartbeat, in one slot of a cluster."""

    moments: str
    errors: str

    @classmethod
    def of(cls, name: str) -> "_Keys":
        prefix = f"tickview:{{heartbeats:{name}}}:"
        return cls(prefix + "moments", prefix + "errors")
