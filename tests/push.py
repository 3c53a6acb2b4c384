"""Commits as an API process receives them, and a client of live push that applies messages."""

from collections.abc import Mapping
from typing import Any

import orjson

from projections.base import encode_row
from projections.registry import READ_MODELS
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, RowChange
from readapi.push.topics import topics_of

BUILD = Build(1, 1)

TOPICS = topics_of(READ_MODELS)
"""The topics of TickView's own read models."""


def _document(row: Any | None, position: int) -> bytes | None:
    return None if row is None else encode_row(row, position)


def commit_of(
    log: str,
    position: int,
    *rows: tuple[str, Any | None, Any | None],
    build: Build = BUILD,
    knows_old: bool = True,
    number: int = 0,
) -> Commit:
    """Build a commit. Each row change is its key, the row before and the row after."""
    changes = [
        RowChange(key, _document(old, position) if knows_old else None, _document(new, position))
        for key, old, new in rows
    ]
    return Commit(build, log, CommitId(position, number), 1_000.0, changes, knows_old)


class PushClient:
    """The state of a push client of one topic that applies every message: its rows by key, and its last event id.

    Args:
        key: The member of a row with its key.
        rows: The rows that the client has already.
    """

    def __init__(self, key: str = "id", rows: Mapping[str, Any] | None = None) -> None:
        self.rows = dict(rows or {})
        self.last_id = ""
        self._key = key

    def apply(self, body: bytes | str) -> None:
        """Apply one message."""
        message = orjson.loads(body)
        self.last_id = message["id"]
        for change in message.get("changes", ()):
            if change["op"] == "set":
                [row] = [value for member, value in change.items() if member != "op"]
                self.rows[row[self._key]] = row
            else:
                self.rows.pop(change["id"], None)
