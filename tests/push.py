"""Commits as an API process hears of them, and a client that does as it is told."""

import orjson

from projections.base import encode_row
from projections.patterns import PatternRow
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, RowChange

BUILD = Build(1, 1)
LOGS = ("market-0", "market-1")


def document(row: PatternRow | None, position: int) -> bytes | None:
    """As it is stored."""
    return None if row is None else encode_row(row, position)


def commit_of(
    log: str,
    position: int,
    *rows: tuple[str, PatternRow | None, PatternRow | None],
    build: Build = BUILD,
    knows_old: bool = True,
    number: int = 0,
) -> Commit:
    """A commit; each row is given by its id, what it was and what it is."""
    changes = [
        RowChange(key, document(old, position) if knows_old else None, document(new, position))
        for key, old, new in rows
    ]
    return Commit(build, log, CommitId(position, number), 1_000.0, changes, knows_old)


class Client:
    """What a client knows that does what messages say: the ids of the patterns it shows, and where it is."""

    def __init__(self, shown: set[str] | None = None) -> None:
        self.shown = set(shown or ())
        self.id = ""

    def take(self, body: bytes | str) -> None:
        """One message."""
        message = orjson.loads(body)
        self.id = message["id"]
        for change in message.get("changes", ()):
            if change["op"] == "set":
                self.shown.add(change["pattern"]["id"])
            else:
                self.shown.discard(change["id"])
