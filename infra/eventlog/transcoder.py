"""A JSON transcoder for the ``eventsourcing`` library that preserves tuples and registered subclasses of JSON types."""

from typing import Any

from eventsourcing.persistence import JSONTranscoder, Transcoding

_JSON_SCALARS = frozenset({str, int, float, bool, type(None)})


class TupleAsList(Transcoding):
    """The transcoding of a tuple. Plain JSON would decode a tuple as a list."""

    type = tuple
    name = "tuple_as_list"

    def encode(self, obj: tuple[Any, ...]) -> list[Any]:
        """Return the items as a list."""
        return list(obj)

    def decode(self, data: list[Any]) -> tuple[Any, ...]:
        """Return the items as a tuple."""
        return tuple(data)


class FaithfulJSONTranscoder(JSONTranscoder):
    """A JSON transcoder whose decoded values have the types of the encoded values.

    It also decodes the output of the library's ``JSONTranscoder``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register(TupleAsList())

    def encode(self, obj: Any) -> bytes:
        """Encode an object as JSON.

        Raises:
            TranscodingNotRegisteredError: The object contains a value whose type is not registered.
        """
        return super().encode(self._tag_types(obj))

    def _tag_types(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _JSON_SCALARS:
            return obj
        if kind is dict:
            return {key: self._tag_types(value) for key, value in obj.items()}
        if kind is list:
            return [self._tag_types(item) for item in obj]
        transcoding = self.types.get(kind)
        if transcoding is None:
            return obj
        return {"_type_": transcoding.name, "_data_": self._tag_types(transcoding.encode(obj))}
