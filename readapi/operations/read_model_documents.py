"""The status of a read model as a JSON document, with lag, rate and progress computed from its segments."""

from collections.abc import Sequence

from typing_extensions import TypedDict

from readapi.ports.operations import ReadModelStatus, SegmentStatus


class ReadModelDocument(TypedDict):
    """The status of a read model. Builds are named ``<version>.<number>``.

    ``folded`` says whether a running worker folds the live build. Otherwise the read model does not change any more.

    ``lag_events`` and ``lag_seconds`` say how far the live build is behind the logs: the number of events that are not
    folded yet, and the age of the oldest of them (0 if there is none). ``events_per_second`` and ``parked_keys``
    describe the live build, too.

    ``percent`` is the folded part of the logs, and ``seconds_left`` the time until all events are folded at the present
    rate (null if the rate is 0). Both describe the build under way, or the live build if no build is under way. A build
    that is ``held`` does not go live by itself.
    """

    name: str
    version: int
    previous_version: int | None
    building_version: int | None
    live: str | None
    previous: str | None
    building: str | None
    held: bool
    folded: bool
    lag_events: int
    lag_seconds: float
    events_per_second: float
    percent: float
    seconds_left: float | None
    parked_keys: int
    segments: list[SegmentStatus]
    building_segments: list[SegmentStatus]


def read_model_document(model: ReadModelStatus) -> ReadModelDocument:
    """Convert the status of a read model to its JSON document."""
    progressing = model.building_segments or model.segments
    return {
        "name": model.name,
        "version": model.version,
        "previous_version": model.previous_version,
        "building_version": model.building_version,
        "live": model.live,
        "previous": model.previous,
        "building": model.building,
        "held": model.held,
        "folded": model.folded,
        "lag_events": lag_events(model.segments),
        "lag_seconds": lag_seconds(model),
        "events_per_second": rate(model.segments),
        "percent": _percent(progressing),
        "seconds_left": _seconds_left(progressing),
        "parked_keys": parked_keys(model),
        "segments": list(model.segments),
        "building_segments": list(model.building_segments),
    }


def lag_events(segments: Sequence[SegmentStatus]) -> int:
    """Count the events that are not folded yet."""
    return sum(segment.lag_events for segment in segments)


def lag_seconds(model: ReadModelStatus) -> float:
    """Return the age of the oldest event that the live build has not folded yet, in seconds."""
    return max((segment.lag_seconds for segment in model.segments), default=0.0)


def parked_keys(model: ReadModelStatus) -> int:
    """Count the parked keys of the live build."""
    return sum(segment.parked_keys for segment in model.segments)


def rate(segments: Sequence[SegmentStatus]) -> float:
    """Return the present number of folded events per second."""
    return round(sum(segment.events_per_second for segment in segments), 1)


def _seconds_left(segments: Sequence[SegmentStatus]) -> float | None:
    lag, events_per_second = lag_events(segments), rate(segments)
    return 0.0 if lag == 0 else round(lag / events_per_second, 1) if events_per_second else None


def _percent(segments: Sequence[SegmentStatus]) -> float:
    """Compute the folded part of the logs. The result is rounded down, so that 100 means all events."""
    head = sum(segment.head for segment in segments)
    folded = sum(min(segment.checkpoint, segment.head) for segment in segments)
    return folded * 10_000 // head / 100 if head else 100.0
