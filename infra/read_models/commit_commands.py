"""The write commands of a commit, which the server-side function ``commit`` runs."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import orjson

from domain.log import LogEntry
from infra.read_models.keys import SegmentKeys
from projections.fold import Parked
from projections.mutations import Mutations

WORDS_PER_COMMAND = 4_000
"""Highest number of words per command. Lua can unpack about 8,000 values into one call."""

CHANGES_KEPT = 100_000
"""Approximate number of row changes in the changes stream of a segment. Older changes are trimmed."""

Word = str | int | float
"""A word of a command. It is never bytes, because the server's MessagePack library has no binary type."""

Command = tuple[str, str, Sequence[Word]]
"""The name, the key, and the words after the key. ZINCRBY takes any number of pairs of increment and member."""


class PackedCommands(NamedTuple):
    """Commands, packed as an argument of the server-side function."""

    commands: Sequence[Command]
    key_numbers: Mapping[str, int]
    """Key -> its number in the call of the function, from 1."""
    content: bytes


def pack_commands(commands: Iterable[Command], key_numbers: Mapping[str, int]) -> PackedCommands:
    """Pack commands, and number their keys behind the keys that have numbers already."""
    commands, numbers = list(commands), dict(key_numbers)
    content = msgspec.msgpack.encode(
        [(name, numbers.setdefault(key, len(numbers) + 1), words) for name, key, words in commands]
    )
    return PackedCommands(commands, numbers, content)


def build_commands(names: SegmentKeys, mutations: Mutations) -> Iterator[Command]:
    """Yield the write commands of changes, as few as ``WORDS_PER_COMMAND`` allows, without the entry of the changes."""
    rows = {key: None if document is None else document.decode() for key, document in mutations.rows.items()}
    yield from _hash_commands(names.rows, rows)
    for (name, group), members in mutations.index_removals.items():
        yield from _split("ZREM", names.index(name, group), members, 1)
    for (name, group), scores in mutations.index_additions.items():
        pairs: list[Word] = []
        # In the order of the scores, the server finds the place of each member near the place of the member before.
        for member in sorted(scores, key=scores.__getitem__):
            pairs += (scores[member], member)
        yield from _split("ZADD", names.index(name, group), pairs, 2)
    for name, texts in mutations.texts.items():
        yield from _hash_commands(names.texts(name), texts)
    increments: dict[str, list[Word]] = defaultdict(list)
    for (name, group), change in mutations.counts.items():
        increments[name] += (change, group)
    for name, pairs in increments.items():
        yield from _split("ZINCRBY", names.count(name), pairs, 2)
    groups = {group: "\n".join(sorted(keys)) if keys else None for group, keys in mutations.groups.items()}
    yield from _hash_commands(names.groups, groups)
    yield from _parking_commands(names, mutations.parked)


def _hash_commands(key: str, values: Mapping[str, str | None]) -> Iterator[Command]:
    """Yield the commands that set the fields of a hash, and remove the fields with the value None."""
    present: list[Word] = []
    for name, value in values.items():
        if value is not None:
            present += (name, value)
    yield from _split("HSET", key, present, 2)
    yield from _split("HDEL", key, [name for name, value in values.items() if value is None], 1)


def _split(name: str, key: str, words: Sequence[Word], step: int) -> Iterator[Command]:
    """Split a command into commands of at most ``WORDS_PER_COMMAND`` words, without separating ``step`` words."""
    size = WORDS_PER_COMMAND // step * step
    for start in range(0, len(words), size):
        yield name, key, words[start : start + size]


def _parking_commands(names: SegmentKeys, parked: Iterable[Parked]) -> Iterator[Command]:
    for event in parked:
        if event.error is not None:
            yield "HSET", names.parked, [event.key, describe_parked_key(event)]
        yield "RPUSH", names.parked_events(event.key), [pack_entry(event.entry)]


def pack_entry(entry: LogEntry) -> str:
    """Return a log entry as JSON."""
    return orjson.dumps({**entry._asdict(), "state": entry.state.decode()}).decode()


def unpack_entry(packed: bytes) -> LogEntry:
    """Parse a log entry that ``pack_entry`` has written."""
    values = orjson.loads(packed)
    return LogEntry(**{**values, "state": values["state"].encode()})


def describe_parked_key(parked: Parked) -> str:
    """Return the JSON object that is stored for a parked key: the error, and the event's position and time."""
    entry = parked.entry
    return orjson.dumps({"error": parked.error, "position": entry.position, "since": entry.recorded_at}).decode()


def changes_command(
    names: SegmentKeys, mutations: Mutations, position: int, recorded_at: float | None = None
) -> Command:
    """Return the command that adds the entry of a commit to the changes stream.

    Args:
        names: The keys of the segment.
        mutations: The changes.
        position: The checkpoint to which the commit leads.
        recorded_at: Time of the last event in epoch seconds; None for the retry of parked events.
    """
    return "XADD", names.changes, _changes_entry(mutations, position, recorded_at)


def _changes_entry(mutations: Mutations, position: int, recorded_at: float | None) -> list[Word]:
    changes = mutations.rows if mutations.tells_rows else dict.fromkeys(mutations.rows)
    rows = b",".join(b"[%b,%b]" % (orjson.dumps(key), document or b"null") for key, document in changes.items())
    keep = max(100, min(10_000, CHANGES_KEPT // max(1, len(mutations.rows))))
    if recorded_at is None:  # Parked events are folded at a position that has an entry already.
        return ["MAXLEN", "~", keep, f"{position}-*", "rows", f"[{rows.decode()}]"]
    # The milliseconds tell this commit from a commit of the same position that the server has lost.
    entry_id = f"{position}-{time.time_ns() // 1_000_000 % 1_000_000}"
    entry: list[Word] = ["MAXLEN", "~", keep, entry_id, "rows", f"[{rows.decode()}]", "recorded_at", recorded_at]
    return [*entry, "traces", " ".join(mutations.traces)] if mutations.traces else entry
