"""Downloads of all rows that match a query: CSV (RFC 4180), NDJSON and Apache Arrow streams, in batches."""

import asyncio
import csv
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from io import BytesIO, StringIO
from typing import Any, Protocol

import falcon
import orjson
from falcon.asgi import Request

from readapi.http.problems import Problem
from readapi.read_models.schemas import MemberType

CSV = "text/csv"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

FILE_ENDINGS = {CSV: "csv", NDJSON: "ndjson", ARROW: "arrow"}
"""Media type of a download -> ending of the file's name."""

Documents = Sequence[Mapping[str, Any]]
"""The documents of some rows. All have the same members."""


def download_type(req: Request) -> str | None:
    """Return the media type of the download that a client prefers to JSON. None: the client prefers JSON."""
    preferred = req.client_prefers((falcon.MEDIA_JSON, *FILE_ENDINGS))
    return preferred if preferred in FILE_ENDINGS else None


class Encoder(Protocol):
    """Encodes documents batch by batch."""

    def start(self) -> bytes:
        """Return the bytes before the first batch."""
        ...

    def encode(self, documents: Documents) -> bytes:
        """Encode one batch."""
        ...

    def end(self) -> bytes:
        """Return the bytes after the last batch."""
        ...


def open_encoder(media_type: str, members: Mapping[str, MemberType]) -> Encoder:
    """Create the encoder for a media type.

    Args:
        media_type: One of ``FILE_ENDINGS``.
        members: The members of each document, in order.

    Raises:
        Problem: 406, the service lacks the library for the media type.
    """
    if media_type == ARROW:
        return ArrowEncoder(members)
    return CsvEncoder(members) if media_type == CSV else NdjsonEncoder()


class NdjsonEncoder:
    """Encodes each document as one line of JSON."""

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def encode(self, documents: Documents) -> bytes:
        """Encode one batch."""
        return b"".join([orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE) for document in documents])

    def end(self) -> bytes:
        """Return nothing."""
        return b""


class CsvEncoder:
    """Encodes each document as one line of CSV, after a line with the names of the members.

    A missing value is an empty field. Objects and lists are JSON.
    """

    def __init__(self, members: Mapping[str, MemberType]) -> None:
        self._names = list(members)

    def start(self) -> bytes:
        """Return the line with the names of the members."""
        return self._lines([self._names])

    def encode(self, documents: Documents) -> bytes:
        """Encode one batch."""
        return self._lines([_flat(value) for value in document.values()] for document in documents)

    def end(self) -> bytes:
        """Return nothing."""
        return b""

    def _lines(self, rows: Any) -> bytes:
        text = StringIO()
        csv.writer(text).writerows(rows)
        return text.getvalue().encode()


def _flat(value: Any) -> Any:
    """Convert an object, a list or a truth value to JSON, so that it fits into one field."""
    return orjson.dumps(value).decode() if isinstance(value, dict | list | tuple | bool) else value


class ArrowEncoder:
    """Encodes each batch as one record batch of an Arrow IPC stream. Objects and lists are JSON.

    Raises:
        Problem: 406, the library pyarrow is not installed.
    """

    def __init__(self, members: Mapping[str, MemberType]) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise Problem(
                HTTPStatus.NOT_ACCEPTABLE,
                "not-acceptable",
                "this service cannot write Arrow streams, because pyarrow is not installed: run "
                "pip install 'tickview[parquet]', or accept text/csv or application/x-ndjson",
            ) from error
        types = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
        self._names = list(members)
        self._is_json = [member.value_type not in types for member in members.values()]
        self._schema = pa.schema(
            [(name, types.get(member.value_type, pa.string())) for name, member in members.items()]
        )
        self._sink = BytesIO()
        self._writer = pa.ipc.new_stream(self._sink, self._schema)
        self._new_batch: Callable[..., Any] = pa.record_batch

    def start(self) -> bytes:
        """Return the schema."""
        return self._take()

    def encode(self, documents: Documents) -> bytes:
        """Encode one batch."""
        columns = [
            [_json_or_none(document[name]) for document in documents] if is_json else [d[name] for d in documents]
            for name, is_json in zip(self._names, self._is_json, strict=True)
        ]
        self._writer.write_batch(self._new_batch(columns, schema=self._schema))
        return self._take()

    def end(self) -> bytes:
        """Return the end of the stream."""
        self._writer.close()
        return self._take()

    def _take(self) -> bytes:
        encoded = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return encoded


def _json_or_none(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


async def stream(encoder: Encoder, batches: AsyncIterator[Documents]) -> AsyncIterator[bytes]:
    """Encode batches one by one. Other requests get a turn between two batches."""
    yield encoder.start()
    async for documents in batches:
        if documents:
            yield encoder.encode(documents)
        await asyncio.sleep(0)
    yield encoder.end()
