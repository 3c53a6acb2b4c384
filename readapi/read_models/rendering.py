"""The JSON documents of rows: all columns, or the members of declared views."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from projections.queries import AnyProjection, ResultRow
from projections.views import Member, Provenance, RowKey, View

POSITION = "position"
"""The member with the log and the position of the event that last changed the row."""


class EncodedRows:
    """Base class of rows whose documents in one view may mostly be encoded in advance."""

    def encode(self, view: View, now: float) -> bytes | None:
        """Encode the documents as a JSON array, with the same result as ``render``.

        Args:
            view: The view in which the rows are shown.
            now: Moment to which time spans refer, in epoch seconds.

        Returns:
            The array, or None if documents in this view are not encoded in advance.
        """
        raise NotImplementedError

    def texts(self, column: str) -> set[str]:
        """Return the different texts of the rows in a column."""
        raise NotImplementedError


def texts_of(rows: Sequence[ResultRow[Any]], column: str) -> set[str]:
    """Return the different texts of rows in a column."""
    if isinstance(rows, EncodedRows):
        return rows.texts(column)
    return {text for result in rows if isinstance(text := getattr(result.row, column), str)}


def row_members(projection: AnyProjection) -> Mapping[str, Member]:
    """Return the members that show a row as it is: the key, all columns and the provenance."""
    columns: dict[str, Member] = {name: name for name in projection.columns}
    return {projection.key: RowKey(), **columns, POSITION: Provenance()}


def all_columns(projection: AnyProjection) -> View:
    """Return the view of the key, all columns and the provenance."""
    return View(**row_members(projection))


def end_of_second(now: float) -> float:
    """Return the end of the second of ``now``. Time spans refer to it, so that answers within one second are equal."""
    return int(now) + 1.0


def render(rows: Sequence[ResultRow[Any]], view: View, now: float) -> bytes:
    """Encode rows as a JSON array.

    Args:
        rows: The rows.
        view: The view in which the rows are shown.
        now: Moment to which time spans refer, in epoch seconds.
    """
    encoded = rows.encode(view, now) if isinstance(rows, EncodedRows) else None
    return orjson.dumps([view.render(result, now) for result in rows]) if encoded is None else encoded


def render_within(rows: Sequence[ResultRow[Any]], view: View, now: float, max_bytes: int) -> tuple[bytes, int]:
    """Encode the first rows as a JSON array.

    Args:
        rows: The rows.
        view: The view in which the rows are shown.
        now: Moment to which time spans refer, in epoch seconds.
        max_bytes: Highest number of bytes of the encoded rows. The first row may have more.

    Returns:
        The array, and the number of rows in the array.
    """
    encoded = rows.encode(view, now) if isinstance(rows, EncodedRows) else None
    if encoded is not None and len(encoded) <= max_bytes:
        return encoded, len(rows)
    documents: list[bytes] = []
    size = 0
    for index in range(len(rows)):  # Iteration would decode all rows at once.
        document = orjson.dumps(view.render(rows[index], now))
        size += len(document)
        if documents and size > max_bytes:
            break
        documents.append(document)
    return b"[%b]" % b",".join(documents), len(documents)
