"""Merged rows: one row for each key, from the rows that were built from single logs."""

from collections.abc import Mapping
from functools import reduce
from typing import Any

from projections.base import Projection
from projections.queries import ResultRow, read_result

PART_BYTES = 1_000
"""Approximate bytes of one part."""


class MergedRows:
    """The rows of a projection that merges, each as its parts: the rows with one key, by log.

    Args:
        projection: The projection of the read model.
    """

    def __init__(self, projection: Projection[Any, Any]) -> None:
        self._projection = projection
        self._parts: dict[str, Mapping[str, ResultRow[Any]]] = {}

    def put(self, log: str, key: str, document: bytes | None) -> ResultRow[Any] | None:
        """Replace or remove the part of one log, and return the merged row. None: no log has a row with the key."""
        parts = self._with(log, key, document)
        if parts:
            self._parts[key] = parts
        else:
            self._parts.pop(key, None)
        return self._merge(parts)

    def preview(self, log: str, key: str, document: bytes | None) -> ResultRow[Any] | None:
        """Return the result of ``put`` without the change."""
        return self._merge(self._with(log, key, document))

    @property
    def nbytes(self) -> int:
        """Approximate memory of all parts, in bytes."""
        return PART_BYTES * sum(map(len, self._parts.values()))

    def _with(self, log: str, key: str, document: bytes | None) -> Mapping[str, ResultRow[Any]]:
        others = {name: part for name, part in self._parts.get(key, {}).items() if name != log}
        return others if document is None else {**others, log: read_result(self._projection.row, log, key, document)}

    def _merge(self, parts: Mapping[str, ResultRow[Any]]) -> ResultRow[Any] | None:
        """Merge in the order of the logs' names, with the provenance of the part with the highest position.

        The result does not depend on the order in which the parts arrived, so that all processes have equal rows.
        """
        if not parts:
            return None
        row = reduce(self._projection.merge, [parts[log].row for log in sorted(parts)])
        return max(parts.values(), key=lambda part: (part.position, part.log))._replace(row=row)
