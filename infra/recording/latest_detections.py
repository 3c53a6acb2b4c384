"""The latest active detections: which detection an expiry ends that does not name the time of its detection.

The read model of the patterns has the active detections up to its checkpoint. The events of the symbol behind the
checkpoint are folded on top, so that the result is that of the whole log.
"""

import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from redis import Redis

from domain.events import PatternEvent, PatternExpired, UndatedExpiry
from domain.log import LogEntry
from domain.undated_expiry import choose_detection, date_expiry
from infra.log.entries import entry_id, parse_entries
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.cluster import run_on_key_node
from projections.base import ENDS_INDEX, StoredRow, equality_index
from projections.decoding import decode_entries
from projections.fold import LoadedState, fold, overlay
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import Segment
from projections.registry import READ_MODELS

TAIL = 16
"""Number of the last events of a stream that are looked up first. Usually all of them have been folded."""

ENTRIES_PER_READ = 500
"""Highest number of events that one round trip reads."""


class ResolvedExpiry(NamedTuple):
    """An expiry with the detection that it ends."""

    event: PatternExpired | UndatedExpiry
    """The expiry of a detection, or the unchanged expiry if no active detection fits."""
    version: int
    """The version that the event must get, so that no other event of the symbol has come in between."""


class _Folded(NamedTuple):
    """The rows of a read model up to its checkpoint, without the values that do not matter here."""

    checkpoint: int
    rows: dict[str, StoredRow[PatternRow]]


class _Unfolded(NamedTuple):
    """What some streams have behind the checkpoint of a read model."""

    versions: list[int]
    """The last version of each stream."""
    entries: list[LogEntry]
    """The events of all these streams that the read model has not folded, ordered by position."""


def resolve(log: EventLog, expiries: Sequence[UndatedExpiry]) -> list[ResolvedExpiry]:
    """Find the detection that each expiry ends. The number of round trips does not depend on the number of expiries.

    Args:
        log: The log of all expiries.
        expiries: The expiries, each of another symbol.
    """
    folded = _read_folded(log, expiries)
    unfolded = _read_unfolded(log, [expiry.stream for expiry in expiries], folded.checkpoint)
    rows = _fold(folded.rows, expiries, unfolded.entries)
    now = time.time()
    active = [row for row in rows if row.expires_at is None or row.expires_at > now]
    versions = zip(expiries, unfolded.versions, strict=True)
    return [_resolved(expiry, active, version + 1) for expiry, version in versions]


def _resolved(expiry: UndatedExpiry, active: Iterable[PatternRow], version: int) -> ResolvedExpiry:
    times = (
        row.detected_at
        for row in active
        if (row.symbol, row.pattern) == (expiry.symbol, expiry.pattern) and expiry.tier in (None, row.tier)
    )
    detected_at = choose_detection(expiry, times)
    return ResolvedExpiry(expiry if detected_at is None else date_expiry(expiry, detected_at), version)


def _read_folded(log: EventLog, expiries: Sequence[UndatedExpiry]) -> _Folded:
    """Read the rows of the live build whose symbol and pattern an expiry has. Without a build there are none."""
    name = ActivePatterns.name
    build = read_versions(log.client, [name])[name].live
    if build is None:
        return _Folded(0, {})
    names = SegmentKeys(Segment(name, build, log.name))
    symbol = READ_MODELS[name].columns["symbol"]
    indexes = {names.index(equality_index("symbol"), symbol.group(expiry.symbol)) for expiry in expiries}
    wanted = {(expiry.symbol, expiry.pattern) for expiry in expiries}

    def read(node: Redis) -> _Folded:
        # The checkpoint comes first: rows may be newer, and folding an event of the tail again changes no end.
        checkpoint, *members = _pipelined(
            node, [("HGET", names.state, "checkpoint"), *(("ZRANGE", index, 0, -1) for index in indexes)]
        )
        keys = [key for key in map(bytes.decode, chain.from_iterable(members)) if _subject_of(key) in wanted]
        ends = node.zmscore(names.index(ENDS_INDEX), keys) if keys else []
        rows = {key: _row_of(key, end) for key, end in zip(keys, ends, strict=True)}
        return _Folded(int(checkpoint or 0), rows)

    return run_on_key_node(log.client, names.state, read)


def _subject_of(key: str) -> tuple[str, str]:
    """Return the symbol and the pattern of a pattern id."""
    symbol, pattern, _, _ = key.rsplit(":", 3)
    return symbol, pattern


def _row_of(key: str, end: float | None) -> StoredRow[PatternRow]:
    symbol, pattern, tier, milliseconds = key.rsplit(":", 3)
    row = PatternRow(
        id=key,
        symbol=symbol,
        pattern=pattern,
        tier=tier,
        confidence=0.0,
        detected_at=int(milliseconds) / 1000,
        updated_at=0.0,
        expires_at=end,
    )
    return StoredRow(row, 0)


def _read_unfolded(log: EventLog, streams: Sequence[str], checkpoint: int) -> _Unfolded:
    """Read the events of streams behind a checkpoint, which are never trimmed."""

    def read(node: Redis) -> _Unfolded:
        # Versions and positions must be of one moment.
        versions, *ends = _pipelined(
            node,
            [
                ("HMGET", log.keys.versions, *streams),
                *(("LRANGE", log.keys.stream(stream), -TAIL, -1) for stream in streams),
            ],
            transaction=True,
        )
        tails = [list(map(int, end)) for end in ends]
        longer = [number for number, tail in enumerate(tails) if len(tail) == TAIL and tail[0] > checkpoint]
        complete = _pipelined(node, [("LRANGE", log.keys.stream(streams[number]), 0, -1) for number in longer])
        for number, positions in zip(longer, complete, strict=True):
            latest = tails[number][-1]
            tails[number] = [position for position in map(int, positions) if position <= latest]
        unfolded = sorted(position for position in chain.from_iterable(tails) if position > checkpoint)
        return _Unfolded([int(version or 0) for version in versions], _read_entries(node, log, unfolded))

    return run_on_key_node(log.client, log.keys.log, read)


def _read_entries(node: Redis, log: EventLog, positions: Sequence[int]) -> list[LogEntry]:
    entries: list[LogEntry] = []
    for start in range(0, len(positions), ENTRIES_PER_READ):
        ids = map(entry_id, positions[start : start + ENTRIES_PER_READ])
        ranges = _pipelined(node, [("XRANGE", log.keys.log, identity, identity) for identity in ids])
        entries += parse_entries(chain.from_iterable(ranges))
    return entries


def _fold(
    rows: dict[str, StoredRow[PatternRow]], expiries: Sequence[UndatedExpiry], entries: Sequence[LogEntry]
) -> list[PatternRow]:
    """Fold the events about the patterns of the expiries into the rows."""
    projection = READ_MODELS[ActivePatterns.name]
    wanted = {(expiry.symbol, expiry.pattern) for expiry in expiries}
    decoded = [
        entry
        for entry in decode_entries(projection, entries)
        if isinstance(entry.event, PatternEvent) and (entry.event.symbol, entry.event.pattern) in wanted
    ]
    groups: dict[str, set[str]] = {}
    for key in rows:
        groups.setdefault(projection.group_of(key) or key, set()).add(key)
    loaded = LoadedState(dict(rows), groups)
    overlay(loaded, fold(projection, loaded, decoded))
    return [stored.row for stored in loaded.rows.values()]


def _pipelined(node: Redis, commands: Iterable[tuple[Any, ...]], *, transaction: bool = False) -> list[Any]:
    """Execute commands in one round trip, or in none if there are no commands."""
    with node.pipeline(transaction=transaction) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute())
