"""``/api/projections``: the read models, how far each is and how fast it goes."""

from collections.abc import Sequence

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from readapi.answers import send
from readapi.operation import Resource, operation
from readapi.parameters import Parameters
from readapi.ports import Operations, ReadModelStatus, SegmentStatus


class ReadModelAnswer(TypedDict):
    """A read model. ``percent`` of the logs is folded; ``seconds_left`` at the present rate, null if it stands still.

    The lag in seconds is the age of the oldest event that is not folded yet, 0 if there is none.
    """

    name: str
    version: int
    previous_version: int | None
    building_version: int | None
    lag_events: int
    lag_seconds: float
    events_per_second: float
    percent: float
    seconds_left: float | None
    parked_keys: int
    segments: list[SegmentStatus]


class ProjectionsAnswer(TypedDict):
    """Every read model."""

    projections: list[ReadModelAnswer]


class ProjectionsResource(Resource):
    """The read models."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation("The read models and how they stand", answers={200: ProjectionsAnswer}, problems=(503,))
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """All of them."""
        models = await self._operations.read_models()
        send(resp, ProjectionsAnswer(projections=[shown(model) for model in models]))


def lag_seconds(model: ReadModelStatus) -> float:
    """The age of the oldest event that is not folded yet."""
    return max((segment.lag_seconds for segment in model.segments), default=0.0)


def parked_keys(model: ReadModelStatus) -> int:
    """Keys whose events wait for a fix."""
    return sum(segment.parked_keys for segment in model.segments)


def shown(model: ReadModelStatus) -> ReadModelAnswer:
    """A read model as it is told to people and programs."""
    lag = sum(segment.lag_events for segment in model.segments)
    rate = sum(segment.events_per_second for segment in model.segments)
    return {
        "name": model.name,
        "version": model.version,
        "previous_version": model.previous_version,
        "building_version": model.building_version,
        "lag_events": lag,
        "lag_seconds": lag_seconds(model),
        "events_per_second": rate,
        "percent": _percent(model.segments),
        "seconds_left": 0.0 if lag == 0 else round(lag / rate, 1) if rate else None,
        "parked_keys": parked_keys(model),
        "segments": list(model.segments),
    }


def _percent(segments: Sequence[SegmentStatus]) -> float:
    """Rounded down, so that 100 means all."""
    head = sum(segment.head for segment in segments)
    folded = sum(min(segment.checkpoint, segment.head) for segment in segments)
    return folded * 10_000 // head / 100 if head else 100.0
