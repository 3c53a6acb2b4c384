"""The number of partitions of the market log, and the logs in which a stream can be after the number was raised.

A stream stays for ever in the log that has its first event. Streams that begin after a raise spread over all
partitions. ``docs/event-log.md`` describes how recorders find the log of a stream.
"""

from typing import NamedTuple

from domain.streams import log_of, market_logs

MAX_PARTITIONS = 64
"""Highest number of partitions of the market log."""


class Partitions(NamedTuple):
    """The number of partitions, now and at first. As text: ``4``, or ``4-8`` if it was raised from 4 to 8."""

    number: int
    """The present number, from 1 to ``MAX_PARTITIONS``."""
    created: int
    """The number with which the log was created, from 1 to ``number``."""

    @classmethod
    def of(cls, number: int) -> "Partitions":
        """Return the partitions of a log that is created with a number of partitions."""
        return cls(number, number)

    @classmethod
    def parse(cls, text: str) -> "Partitions":
        """Parse the result of ``str``. Raises ValueError for another text."""
        created, _, number = text.partition("-")
        return cls(int(number or created), int(created))

    def __str__(self) -> str:
        return f"{self.created}-{self.number}" if self.was_raised else str(self.number)

    @property
    def was_raised(self) -> bool:
        """Whether the log has had a lower number of partitions."""
        return self.number != self.created

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the partitions."""
        return market_logs(self.number)

    def merged(self, other: "Partitions") -> "Partitions":
        """Return what follows from two statements about one log, of which the other may be older."""
        return Partitions(max(self.number, other.number), min(self.created, other.created))

    def fits(self, other: "Partitions") -> bool:
        """Return whether both can be statements about one log, because the log may have had a number of both."""
        return self.created <= other.number and other.created <= self.number


def other_logs_of(stream: str, partitions: Partitions) -> list[str]:
    """Return the logs that have a stream if it began before a raise, without the log in which a new stream begins.

    Args:
        stream: The name of the stream.
        partitions: The number of partitions. The result is empty if it was never raised.
    """
    present = log_of(stream, partitions.number)
    earlier = {log_of(stream, number) for number in range(partitions.created, partitions.number)}
    return sorted(earlier - {present})
