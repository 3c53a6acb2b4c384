"""Commits as an API process receives them, and a client of live push that applies messages."""

import orjson

from projections.base import encode_row
from projections.patterns import PatternRow
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, RowChange

BUILD = Build(1, 1)


def _document(row: PatternRow | None, position: int) -> bytes | None:
    return None if row is None else encode_row(row, position)


def commit_of(
    log: str,
    position: int,
    *rows: tuple[str, PatternRow | None, PatternRow | None],
    build: Build = BUILD,
    knows_old: bool = True,
    number: int = 0,
) -> Commit:
    """Build a commit. Each row change is its id, the row before and the row after."""
    changes = [
        RowChange(key, _document(old, position) if knows_old else None, _document(new, position))
        for key, old, new in rows
    ]
    return Commit(build, log, CommitId(position, number), 1_000.0, changes, knows_old)


class PushClient:
    """The state of a push client that applies every message: the ids of its patterns and its last event id."""

    def __init__(self, pattern_ids: set[str] | None = None) -> None:
        self.pattern_ids = set(pattern_ids or ())
        self.last_id = ""

    def apply(self, body: bytes | str) -> None:
        """Apply one message."""
        message = orjson.loads(body)
        self.last_id = message["id"]
        for change in message.get("changes", ()):
            if change["op"] == "set":
                self.pattern_ids.add(change["pattern"]["id"])
            else:
                self.pattern_ids.discard(change["id"])
