"""The library's JSON transcoder, made to give back tuples, and registered subclasses of what JSON knows, as
such.
"""

from typing import Any

from eventsourcing.persistence import JSONTranscoder, Transcoding

_BY_JSON_ITSELF = frozenset({str, int, float, bool, type(None)})


class TupleAsList(Transcoding):
    """A tuple, which JSON alone would give back as a list."""

    type = tuple
    name = "tuple_as_list"

    def encode(self, obj: tuple[Any, ...]) -> list[Any]:
        """The items."""
        return list(obj)

    def decode(self, data: list[Any]) -> tuple[Any, ...]:
        """The tuple of the items."""
        return tuple(data)


class FaithfulJSONTranscoder(JSONTranscoder):
    """What JSONTranscoder has written can be read, too."""

    def __init__(self) -> None:
        super().__init__()
        self.register(TupleAsList())

    def encode(self, obj: Any) -> bytes:
        """The object as JSON. Raises TranscodingNotRegisteredError for an object of an unknown type."""
        return super().encode(self._named(obj))

    def _named(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _BY_JSON_ITSELF:
            return obj
        if kind is dict:
            return {key: self._named(value) for key, value in obj.items()}
        if kind is list:
            return [self._named(item) for item in obj]
        transcoding = self.types.get(kind)
        if transcoding is None:
            return obj
        return {"_type_": transcoding.name, "_data_": self._named(transcoding.encode(obj))}
