"""The catalogue in an API process: the read models ``symbols`` and ``universes``, kept in memory."""

from collections.abc import Callable, Sequence
from typing import Any

from infra.catalogue.parsing import MAX_SYMBOLS
from infra.serving.replicas import AnyReplica, ReplicatedReadModel
from projections.base import Projection
from readapi.catalogue.replicas import UnloadedReplica


class ReplicatedCatalogueModel(ReplicatedReadModel[UnloadedReplica, AnyReplica]):
    """The live build of a read model of the catalogue. Only a complete replica answers.

    While the server has no live build, an empty replica answers.

    Args:
        projection: The projection of the read model.
        logs: The logs that the read model folds.
        new_replica: Creates an empty replica.
    """

    def __init__(
        self, projection: Projection[Any, Any], logs: Sequence[str], new_replica: Callable[[], AnyReplica]
    ) -> None:
        super().__init__(projection, logs, lambda _: UnloadedReplica(), new_replica, MAX_SYMBOLS)

    def note_missing_build(self) -> None:
        """Let an empty replica answer."""
        build, queries, positions = self.current.build, self.current.queries, self.current.positions
        if build.number == 0 and isinstance(queries, UnloadedReplica):
            self.move_to(build, positions, self._new_replica())
