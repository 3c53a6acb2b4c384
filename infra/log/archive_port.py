"""The port through which a log reads and consults its archive."""

from typing import NamedTuple, Protocol

from domain.log import LogEntry
from infra.log.handle import LogHandle


class StreamRange(NamedTuple):
    """A range of versions of one stream, and the order in which to read it."""

    stream: str
    lowest: int
    """First version of the range."""
    highest: int
    """Last version of the range, included."""
    descending: bool
    """Whether the highest version comes first."""
    limit: int
    """Highest number of events to return."""


class Archive(Protocol):
    """The store of the events that were trimmed from a log. Every method raises ArchiveUnavailableError."""

    def read(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """Return the archived events with positions > ``after`` and <= ``upto``, in order, at most ``limit``."""
        ...

    def read_batch(self, log: str, after: int, upto: int, limit: int) -> list[LogEntry]:
        """Return the first of these events: at most ``BATCH_BYTES``, or one event. Empty only if there is none."""
        ...

    def read_stream(self, log: str, versions: StreamRange) -> list[LogEntry]:
        """Return the archived events of a stream in a range of versions, ordered by version."""
        ...

    def open(self, log: LogHandle) -> None:
        """Restore the events that ``log`` has lost, and open it for appending.

        Raises:
            LogDivergedError: The log and the archive hold different events at the same position.
        """
        ...

    def close(self) -> None:
        """Close the connections of the archive."""
        ...
