"""Writes given rows into a read model as the engine does: with derived indexes and counts, committed under a lease."""

from collections.abc import Mapping
from typing import Any

from redis import Redis

from infra.read_models.store import RedisStore
from projections.base import Projection, StoredRow, encode_row
from projections.fold import EvolvedRow, FoldResult
from projections.mutations import derive
from projections.placement import place
from projections.ports import CommitOutcome, Progress, Segment
from projections.versions import Build
from tests.read_model import FIRST_BUILD


class SegmentWriter:
    """Writes rows into one segment, and remembers them with their positions."""

    def __init__(self, client: Redis, projection: Projection[Any, Any], log: str, build: Build = FIRST_BUILD) -> None:
        self._projection = projection
        self._store = RedisStore(client)
        [lease] = self._store.lease([Segment(projection.name, build, log)], "filling", 600)
        assert lease is not None
        self._lease = lease
        self.rows: dict[str, StoredRow[Any]] = {}

    @property
    def checkpoint(self) -> int:
        """The position of the last row written."""
        return self._lease.checkpoint

    def put(self, rows: Mapping[str, Any]) -> None:
        """Write rows at consecutive positions in one commit. None removes a row."""
        folded = FoldResult(before={key: self.rows.get(key) for key in rows})
        position = self._lease.checkpoint
        for key, row in rows.items():
            position += 1
            if row is None:
                folded.after[key] = EvolvedRow(None, None)
                self.rows.pop(key, None)
            else:
                self.rows[key] = StoredRow(row, position)
                folded.after[key] = EvolvedRow(self.rows[key], encode_row(row, position))
        folded.placement = place(self._projection, {key: row for key, row in rows.items() if row is not None})
        outcome = self._store.begin_commit(
            self._lease, Progress(position, 0.0, 0.0), derive(self._projection, folded)
        ).result()
        assert outcome is CommitOutcome.COMMITTED
