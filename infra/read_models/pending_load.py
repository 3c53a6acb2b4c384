"""A pending load: the caller works between the request for the rows of a batch and the rows."""

from collections.abc import Collection, Sequence
from typing import Any

from infra.read_models.keys import SegmentKeys
from infra.redis.connections import RedisClient
from infra.redis.functions import Argument, command
from infra.redis.pending_call import PendingCall
from projections.base import Projection, decode_row
from projections.fold import LoadedState
from projections.ports import RowsTooLargeError, Segment

MAX_LOAD_BYTES = 64 * 1024 * 1024
"""Bound of the bytes of the rows that are loaded for one batch."""


class RedisLoad:
    """The reads of the stored state that a batch of events may change, sent by the constructor.

    A batch without events that the projection handles needs no stored state. Nothing is sent for it.

    Args:
        client: The client whose connections are used.
        projection: The projection that folds the batch.
        segment: The segment.
        keys: The keys of the rows.
        groups: The groups whose rows are loaded too.
        parkable: The keys that may be parked.
    """

    def __init__(
        self,
        client: RedisClient,
        projection: Projection[Any, Any],
        segment: Segment,
        keys: Collection[str],
        groups: Collection[str],
        parkable: Collection[str],
    ) -> None:
        self._client = client
        self._projection = projection
        self._names = names = SegmentKeys(segment)
        self._keys, self._groups, self._parkable = list(keys), list(groups), parkable
        self._call: PendingCall | None = None
        if keys or groups or parkable:
            arguments: list[Argument] = [MAX_LOAD_BYTES, len(keys), *self._keys, *self._groups]
            words = command("load_rows", [names.rows, names.groups], arguments, read_only=True)
            self._call = PendingCall(client, words, ("HLEN", names.parked))

    def wait(self) -> None:
        """Receive the stored state without decoding it."""
        if self._call:
            self._call.wait()

    def result(self) -> LoadedState:
        """Wait for the stored state, and decode it. Call this method exactly once.

        A segment with parked keys takes a second round trip.

        Returns:
            The rows that exist, the members of the groups, and which of the parkable keys are parked.

        Raises:
            RowsTooLargeError: The rows are too large.
            RedisError: The server did not answer any attempt, or it refused a command.
        """
        if self._call is None:
            return LoadedState()
        (members, further, *documents), parked_count = self._call.result()
        if isinstance(parked_count, Exception):
            raise parked_count
        further_keys = [key.decode() for key in further]
        keys = self._keys + further_keys
        if len(documents) < len(keys):
            raise RowsTooLargeError(
                f"the rows have more than {MAX_LOAD_BYTES:,} bytes: let the event change fewer or smaller rows"
            )
        return LoadedState(
            rows={
                key: decode_row(self._projection.row, document)
                for key, document in zip(keys, documents, strict=True)
                if document is not None
            },
            groups={
                name: set(value.decode().split("\n"))
                for name, value in zip(self._groups, members, strict=True)
                if value is not None
            },
            # Usually no key is parked. A lookup of every key in each batch would double the reads.
            parked=self._parked_keys([*self._parkable, *further_keys]) if parked_count else set(),
        )

    def _parked_keys(self, candidates: Sequence[str]) -> set[str]:
        errors: Any = self._client.hmget(self._names.parked, list(candidates)) if candidates else []
        return {key for key, error in zip(candidates, errors, strict=True) if error is not None}
