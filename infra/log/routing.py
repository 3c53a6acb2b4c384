"""The routing of streams to the partitions of the market log.

A stream stays in the partition that has its first event. Once the number of partitions was raised, a recorder
therefore asks the partitions in which a stream may have begun. A sealed partition refuses the first event of a stream
from a recorder that does not know the raised number, so that the answer stays true.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from domain.partitions import Partitions, other_logs_of
from domain.streams import log_of
from infra.log.directory import LogDirectory
from infra.log.errors import LogNotOpenError, StreamElsewhereError
from infra.log.partitions import parse_partitions
from infra.redis.functions import command, with_functions

MAX_ATTEMPTS = 5
"""Highest number of attempts to find the logs of streams. An attempt fails while the number of partitions is raised,
and after the server of a log was replaced."""

MAX_KNOWN = 100_000
"""Highest number of streams whose logs are remembered."""


class Routes(NamedTuple):
    """The logs of some streams."""

    partitions: Partitions
    """The number of partitions from which the logs follow. An append must name it."""
    logs: Mapping[str, str]
    """Stream -> name of its log."""


class _Known(NamedTuple):
    """The logs of the streams that were found or computed under one number of partitions. They never change."""

    partitions: Partitions
    logs: dict[str, str]


class StreamRouter:
    """Finds the log of each stream. Threads may share a router.

    Args:
        logs: The logs.
    """

    def __init__(self, logs: LogDirectory) -> None:
        self._logs = logs
        self._known = _Known(logs.partitions, {})

    def route(self, streams: Iterable[str]) -> Routes:
        """Return the logs of streams, in one round trip per batch that has unknown streams.

        As long as the number of partitions was never raised, there is no round trip.

        Raises:
            RedisError: A partition cannot be asked now.
            PersistenceError: A partition cannot be opened or sealed now.
        """
        wanted = set(streams)
        for _ in range(MAX_ATTEMPTS):
            known = self._remembered()
            routes = {each: log for each in wanted if (log := known.logs.get(each))}
            try:
                found = self._find(wanted - routes.keys(), known.partitions)
            except StreamElsewhereError as error:
                self.settle(error)
                continue
            except LogNotOpenError:
                continue
            known.logs.update(found)
            return Routes(known.partitions, {**routes, **found})
        raise LogNotOpenError(
            f"The partitions of the market log changed during {MAX_ATTEMPTS} attempts to find the logs of streams. "
            "Try again."
        )

    def settle(self, refusal: StreamElsewhereError) -> None:
        """Learn the raised number of partitions after a refusal, and seal the partitions that are not sealed yet.

        Raises:
            RedisError: The number cannot be read or stored now.
            NotDurableError: A seal is not yet as durable as the options of the log demand.
        """
        self._logs.refresh()
        self._logs.raise_partitions(refusal.sealed or self._logs.partitions)

    def _remembered(self) -> _Known:
        """Return the known streams under the present number of partitions."""
        partitions = self._logs.partitions
        if self._known.partitions != partitions or len(self._known.logs) > MAX_KNOWN:
            self._known = _Known(partitions, {})
        return self._known

    def _find(self, streams: Iterable[str], partitions: Partitions) -> dict[str, str]:
        """Ask the partitions in which streams may have begun.

        Raises:
            StreamElsewhereError: A partition is not sealed with this number of partitions.
            LogNotOpenError: The servers of some partitions were replaced. Their logs are open now.
        """
        asked: dict[str, list[str]] = defaultdict(list)
        found: dict[str, str] = {}
        for stream in streams:
            found[stream] = log_of(stream, partitions.number)
            for log in other_logs_of(stream, partitions):
                asked[log].append(stream)
        replies = self._ask(asked, partitions) if asked else []
        unopened = [log for log, (outcome, *_) in zip(asked, replies, strict=True) if outcome == b"unopened"]
        for log in unopened:
            self._logs[log].open()
        if unopened:
            raise LogNotOpenError(f"The servers of {', '.join(unopened)} were replaced.")
        for (log, names), (outcome, *flags) in zip(asked.items(), replies, strict=True):
            if outcome == b"sealed":
                raise StreamElsewhereError(log, parse_partitions(flags[0]))
            found |= {stream: log for stream, has in zip(names, flags, strict=True) if has}
        return found

    def _ask(self, asked: Mapping[str, Sequence[str]], partitions: Partitions) -> list[Any]:
        client = self._logs.client

        def ask() -> list[Any]:
            with client.pipeline(transaction=False) as pipeline:
                for log, streams in asked.items():
                    keys = self._logs[log].keys
                    arguments = [str(partitions), *streams]
                    pipeline.execute_command(
                        *command("find_streams", [keys.meta, keys.versions], arguments, read_only=True)
                    )
                return list(pipeline.execute())

        return with_functions(client, ask)
