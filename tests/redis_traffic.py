"""The commands that the servers of a cluster execute, as MONITOR shows them, and the slots of their keys."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from socket import SHUT_RDWR
from threading import Thread
from typing import NamedTuple

from redis import Redis
from redis.crc import key_slot

LINE = re.compile(rb"\+[\d.]+ \[\d+ (?P<client>[^\]]*)\] (?P<words>.*)", re.DOTALL)
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)


class ExecutedCommand(NamedTuple):
    """A command that a server has executed."""

    client: str
    """The address of the client, or ``lua`` for a command inside a function."""
    words: Sequence[bytes]
    slots: Set[int] = frozenset()
    """The slots of its keys."""

    @property
    def name(self) -> str:
        """The name of the command in capitals."""
        return self.words[0].decode().upper()


class Traffic:
    """The commands of one server, in the order of their execution."""

    def __init__(self, server: Redis) -> None:
        self._server = server
        self._lines: list[bytes] = []
        self._connection = server.connection_pool.get_connection()
        self._connection.send_command("MONITOR")
        self._connection.read_response()
        self._connection._sock.settimeout(None)
        self._thread = Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with self._connection._sock.makefile("rb") as stream:
            while line := stream.readline():
                self._lines.append(line.rstrip(b"\r\n"))

    def stop(self) -> None:
        """Stop the collection."""
        self._connection._sock.shutdown(SHUT_RDWR)
        self._thread.join()
        self._connection.disconnect()

    def executed(self) -> list[ExecutedCommand]:
        """Return the commands that clients and functions have executed, without the slots of their keys."""
        return [*map(_parse, list(self._lines))]

    def commands(self) -> list[ExecutedCommand]:
        """Return the commands that clients and functions have executed, each with the slots of its keys."""
        commands = self.executed()
        with self._server.pipeline(transaction=False) as pipeline:
            for name, *words in (command.words for command in commands):
                pipeline.execute_command("COMMAND GETKEYS", name.upper(), *words)
            replies = pipeline.execute(raise_on_error=False)
        return [command._replace(slots=_slots(reply)) for command, reply in zip(commands, replies, strict=True)]


def _parse(line: bytes) -> ExecutedCommand:
    match = LINE.fullmatch(line)
    assert match, line[:200]
    return ExecutedCommand(match["client"].decode(), [*map(_unescaped, WORD.findall(match["words"]))])


def _slots(keys: list[str] | Exception) -> set[int]:
    if isinstance(keys, Exception):
        assert "no key arguments" in str(keys), keys
        return set()
    return {key_slot(key.encode()) for key in keys}


def _unescaped(word: bytes) -> bytes:
    return word.decode("unicode_escape").encode("latin-1") if b"\\" in word else word


@contextmanager
def monitored(servers: Sequence[Redis]) -> Iterator[list[Traffic]]:
    """Collect the commands of servers until the context ends."""
    traffic = [Traffic(server) for server in servers]
    try:
        yield traffic
    finally:
        for each in traffic:
            each.stop()


def walk(traffic: Traffic) -> Counter[str]:
    """Check that each command, transaction and function of a server stays in one slot. Count the commands by name."""
    counts: Counter[str] = Counter()
    function_slots: Set[int] = set()
    transactions: dict[str, set[int]] = {}
    for command in traffic.commands():
        slots = command.slots
        assert len(slots) <= 1, command
        if command.client.startswith("lua"):
            assert not slots or slots == function_slots, command
        elif command.name.startswith("FCALL"):
            function_slots = slots
            counts[command.words[1].decode().removeprefix("tickview_").rpartition("_")[0]] += 1
        if command.name == "MULTI":
            transactions[command.client] = set()
        elif command.name in ("EXEC", "DISCARD"):
            assert len(transactions.pop(command.client)) <= 1, command
        elif command.client in transactions:
            transactions[command.client] |= slots
        counts[command.name] += 1
    return counts
