"""Jobs: long work that an operator starts, and whose progress every API process can tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typing_extensions import TypedDict


class PartProgress(TypedDict):
    """The progress of one part of a job. ``done`` and ``total`` count events or rows."""

    name: str
    done: int
    total: int


@dataclass(frozen=True)
class Job:
    """The state of a job. Times are in epoch seconds."""

    options: Mapping[str, Any]
    """The options with which the operator started the job."""
    started_at: float
    finished_at: float | None
    """None while the job is under way."""
    parts: Sequence[PartProgress]
    """The parts that have begun, in order."""
    result: Any
    """The result. None while the job is under way, and if it failed."""
    error: str | None
    """Why the job failed. None if it did not fail."""
