"""The changes of rows, as clients receive them: ``set`` with the new row, or ``remove`` with its key.

A change is decoded at most once and rendered at most once per view, however many clients receive it: every derived
value is computed on first use and kept.
"""

from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any

import orjson

from projections.base import StoredRow, read_row
from projections.queries import ResultRow
from projections.views import View
from readapi.ports.commits import Commit, RowChange
from readapi.push.topics import Topic


class Change:
    """A change of one row, shared by all clients.

    Args:
        topic: The topic of the row.
        change: The documents before and after.
        commit: The commit that made the change.
        now: Time of sending, in epoch seconds. The ends of rows and time spans refer to it.
    """

    def __init__(self, topic: Topic, change: RowChange, commit: Commit, now: float) -> None:
        self.key = change.key
        self.knows_old = commit.knows_old
        """Whether the row before is known."""
        self._topic = topic
        self._change = change
        self._log = commit.log
        self._now = now
        self._rendered: dict[View, bytes] = {}

    @cached_property
    def old(self) -> Any | None:
        """The row before the change. None if there was no row, or if the row is unknown."""
        old = self._change.old
        return read_row(self._topic.projection.row, old).row if old is not None and self.knows_old else None

    @cached_property
    def new(self) -> Any | None:
        """The row after the change. None if the row is gone or has ended."""
        if self._stored is None:
            return None
        row, ends = self._stored.row, self._topic.projection.ends
        end = attrgetter(ends)(row) if ends else None
        return row if end is None or end > self._now else None

    @cached_property
    def _stored(self) -> StoredRow[Any] | None:
        new = self._change.new
        return None if new is None else read_row(self._topic.projection.row, new)

    def set_in(self, view: View) -> bytes:
        """Return the ``set`` change with the new row in a view, as JSON. There must be a new row."""
        rendered = self._rendered.get(view)
        if rendered is None:
            assert self._stored is not None
            result = ResultRow(self._stored.row, self._log, self._stored.position, self.key)
            rendered = orjson.dumps({"op": "set", self._topic.member: view.render(result, self._now)})
            self._rendered[view] = rendered
        return rendered

    @cached_property
    def removal(self) -> bytes:
        """The ``remove`` change, as JSON."""
        return orjson.dumps({"op": "remove", "id": self.key})


def changes_of(topic: Topic, commit: Commit, now: float) -> Sequence[Change]:
    """Return the changes of a commit as they are sent at ``now`` (epoch seconds)."""
    return [Change(topic, change, commit, now) for change in commit.changes]
