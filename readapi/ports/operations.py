"""The status of the service, and the commands of an operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from readapi.ports.archive import ArchiveStatus


@dataclass(frozen=True)
class SegmentStatus:
    """How far a segment, a read model's work on one log, is.

    ``owner`` is the worker that has it, if one has; ``lag_seconds`` the age of the oldest event not folded yet.
    """

    log: str
    checkpoint: int
    head: int
    lag_events: int
    lag_seconds: float
    events_per_second: float
    owner: str | None
    parked_keys: int


@dataclass(frozen=True)
class ReadModelStatus:
    """How a read model stands: its builds, named ``<version>.<number>``, and the segments of two of them."""

    name: str
    version: int
    """Of the live build; of the code, while there is none."""
    previous_version: int | None
    building_version: int | None
    live: str | None
    previous: str | None
    building: str | None
    held: bool
    """Whether the build under way waits for somebody's word before it goes live."""
    segments: Sequence[SegmentStatus]
    """Of the live build."""
    building_segments: Sequence[SegmentStatus]
    """Of the build under way."""


@dataclass(frozen=True)
class ParkedKey:
    """A key of a live build whose events wait for a fix: ``error`` tells what befell the first, which stands at
    ``position`` of ``log`` and was recorded at ``since`` (epoch seconds).
    """

    key: str
    log: str
    position: int
    since: float
    events: int
    error: str


@dataclass(frozen=True)
class IntakeStatus:
    """What came in since the beginning: ``<way>.<what>`` -> how many; and the dead letters kept and dropped."""

    counts: Mapping[str, int]
    dead_letters: int
    dead_letters_dropped: int


@dataclass(frozen=True)
class ServerStatus:
    """A server that the service stands on; ``version`` and ``latency_ms`` are None where it is not up."""

    up: bool
    version: str | None = None
    latency_ms: float | None = None


class Operations(Protocol):
    """How the service stands, and what an operator can do about its read models.

    What names a read model raises NoSuchReadModelError if there is none of that name.
    """

    async def read_models(self) -> Sequence[ReadModelStatus]:
        """Every read model."""
        ...

    async def replay(self, name: str, *, held: bool, throttle: int) -> ReadModelStatus:
        """Build it anew beside the live build, at ``throttle`` events a second for each segment (0: no limit).

        A build that is under way already is joined. It goes live by itself once it has caught up, unless ``held``.
        """
        ...

    async def rollback(self, name: str) -> ReadModelStatus:
        """Let the previous build answer again. Raises NoSuchBuildError."""
        ...

    async def parked(self, name: str) -> Sequence[ParkedKey]:
        """The parked keys of its live build, 1,000 of each log at most."""
        ...

    async def retry_parked(self, name: str, key: str) -> bool:
        """Have a parked key tried again; False if it is not parked."""
        ...

    async def intake(self) -> IntakeStatus:
        """What came in."""
        ...

    async def servers(self) -> Mapping[str, ServerStatus]:
        """``redis``, and ``postgres`` where there is an archive."""
        ...

    async def archive(self) -> ArchiveStatus | None:
        """How the archive stands; None where there is none. Raises UnavailableError."""
        ...
