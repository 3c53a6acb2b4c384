"""The row codec of a replica: the attributes of a row that no column has are stored as MessagePack."""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from msgspec import msgpack

from projections.base import ENDS_INDEX
from projections.columns import LOWEST
from projections.queries import AnyProjection, ResultRow
from readapi.replica.arrays import Slots
from readapi.replica.columns import NO_END, Columns


class RowCodec:
    """Encodes the attributes of rows that no column has, and decodes rows from their payloads and the columns.

    A payload is an array of MessagePack, shorter than JSON and decoded in less time: the position, the attributes, and
    at the end a map with the attributes that their columns cannot restore exactly, such as whole numbers. The map is
    missing if it is empty.

    Args:
        projection: The projection of the read model.
        columns: The rows.
    """

    def __init__(self, projection: AnyProjection, columns: Columns) -> None:
        self._row: type[Any] = projection.row
        self._columns = columns
        names = projection.columns.keys()
        self._coded = names & columns.codes.keys()
        self._numbers = {name: name for name in names & columns.numbers.keys() - self._coded}
        if projection.ends and projection.ends not in self._coded | self._numbers.keys():
            self._numbers[projection.ends] = ENDS_INDEX
        self._key = projection.key if projection.key in names - self._coded - self._numbers.keys() else None
        in_columns = {*self._coded, *self._numbers, self._key}
        self._attributes = [name for name in names if name not in in_columns]
        self._read_attributes = _reader(self._attributes)
        self._read_numbers = _reader(list(self._numbers))
        self._encoder = msgpack.Encoder()
        self._encoded = bytearray()

    def encode(self, result: ResultRow[Any]) -> bytes:
        """Encode the payload of a row."""
        row, _, position, key = result
        values = [position, *self._read_attributes(row)]
        if inexact := self._inexact(key, row):
            values.append(inexact)
        # An encoder allocates more bytes than it returns, and Python keeps up to a third of them with the object.
        self._encoder.encode_into(values, self._encoded)
        return bytes(self._encoded)

    def _inexact(self, key: str, row: Any) -> dict[str, Any]:
        """Return the attributes that the columns cannot restore exactly."""
        inexact = {
            name: value
            for name, value in zip(self._numbers, self._read_numbers(row), strict=True)
            if type(value) is not float and value is not None
        }
        if self._key and getattr(row, self._key) != key:
            inexact[self._key] = getattr(row, self._key)
        return inexact

    def texts(self, column: str, slots: Slots) -> set[str]:
        """Return the different texts of the rows in some slots in a dictionary-encoded column."""
        values = self._columns.dictionaries[column].values
        codes = set(self._columns.codes[column].take(slots).tolist())
        return {text for code in codes if isinstance(text := values[code], str)}

    def decode(self, slot: int) -> ResultRow[Any]:
        """Decode the row in a slot, with its provenance."""
        columns = self._columns
        position, *attributes = msgpack.decode(columns.payloads[slot])
        values = dict(zip(self._attributes, attributes, strict=False))
        for name in self._coded:
            values[name] = columns.value(name, slot)
        for name, column in self._numbers.items():
            number = columns.numbers[column].item(slot)
            values[name] = None if number in (LOWEST, NO_END) else number
        if self._key:
            values[self._key] = columns.keys[slot]
        if len(attributes) > len(self._attributes):
            values.update(attributes[-1])
        return ResultRow(self._row(**values), columns.logs[slot], position, columns.keys[slot])


def _reader(columns: Sequence[str]) -> Callable[[Any], Sequence[Any]]:
    """Return the function that reads the values of some columns of a row, in their order."""
    if len(columns) > 1:
        return attrgetter(*columns)
    return lambda row: [getattr(row, column) for column in columns]
