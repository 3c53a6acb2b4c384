"""``/api/projections``: the read models, how far each is and how fast it goes; replay, rollback, parked keys."""

from collections.abc import Sequence
from typing import Annotated

from falcon.asgi import Request, Response
from falcon.routing import BaseConverter
from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from readapi.http.bodies import json_integer, read_optional_body
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.responses import send
from readapi.ports.operations import Operations, ParkedKey, ReadModelStatus, SegmentStatus

NAME = "The read model's name"

MOST_BYTES = 10_000
"""Of a command."""


class ReadModelAnswer(TypedDict):
    """A read model; builds are named ``<version>.<number>``. Lag, rate and parked keys are those of the live build.

    ``percent`` of the logs is folded, and ``seconds_left`` at the present rate, null if it stands still: of the build
    under way if there is one, else of the live. A build that is ``held`` does not go live by itself. The lag in seconds
    is the age of the oldest event that is not folded yet, 0 if there is none.
    """

    name: str
    version: int
    previous_version: int | None
    building_version: int | None
    live: str | None
    previous: str | None
    building: str | None
    held: bool
    lag_events: int
    lag_seconds: float
    events_per_second: float
    percent: float
    seconds_left: float | None
    parked_keys: int
    segments: list[SegmentStatus]
    building_segments: list[SegmentStatus]


class ProjectionsAnswer(TypedDict):
    """Every read model."""

    projections: list[ReadModelAnswer]


class ProjectionsResource(Resource):
    """The read models."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation("The read models and how they stand", scope="read", responses={200: ProjectionsAnswer}, problems=(503,))
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """All of them."""
        models = await self._operations.read_models()
        send(resp, ProjectionsAnswer(projections=[read_model_document(model) for model in models]))


class OneProjectionAnswer(TypedDict):
    """One read model, after the command."""

    projection: ReadModelAnswer


class ReplayOptions(Parameters):
    """How to build; everything may be left out."""

    throttle: Annotated[int, Field(ge=0, le=10**9), BeforeValidator(json_integer)] = 0
    """Events a second, for each segment, that the build may fold; 0: as fast as it can."""
    hold: bool = False
    """Do not let the build go live when it has caught up."""


class ParkedAnswer(TypedDict):
    """The parked keys of the live build, 1,000 of each log at most: how many events wait under each, and the error,
    position and time (epoch seconds) of the first.
    """

    parked: list[ParkedKey]


class RetryAnswer(TypedDict):
    """The key that will be tried again."""

    retrying: str


class ReplayResource:
    """Building anew."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Build a read model anew beside the live one; one that is under way is joined",
        scope="operate",
        responses={202: OneProjectionAnswer},
        path={"name": NAME},
        body=ReplayOptions,
        body_required=False,
        problems=(404, 413, 415, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """202: workers are told; what is answered tells how far they are."""
        options = await read_optional_body(req, ReplayOptions, MOST_BYTES)
        model = await self._operations.replay(name, held=options.hold, throttle=options.throttle)
        send(resp, OneProjectionAnswer(projection=read_model_document(model)), 202)


class RollbackResource:
    """The way back."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Let the previous build of a read model answer again",
        scope="operate",
        responses={200: OneProjectionAnswer},
        path={"name": NAME},
        problems=(404, 409, 503),
    )
    async def on_post(self, _req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """200: done; 409: there is no previous build."""
        send(resp, OneProjectionAnswer(projection=read_model_document(await self._operations.rollback(name))))


class ParkedKeysResource(Resource):
    """Keys whose events wait for a fix."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Keys of a read model whose events could not be folded",
        scope="operate",
        responses={200: ParkedAnswer},
        path={"name": NAME},
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """All of them, up to a bound."""
        send(resp, ParkedAnswer(parked=list(await self._operations.parked(name))))


class ParkedKeyRetryResource:
    """One of them, once more."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Try a parked key's events again, in order",
        scope="operate",
        responses={202: RetryAnswer},
        path={"name": NAME, "key": "The parked key, percent-encoded"},
        problems=(404, 503),
    )
    async def on_post(self, _req: Request, resp: Response, _query: Parameters, name: str, key: str) -> None:
        """202: the worker that has it is told; what cannot be folded still stays parked."""
        if not await self._operations.retry_parked(name, key):
            raise not_found(f"parked key {key!r} in {name}")
        send(resp, RetryAnswer(retrying=key), 202)


class ParkedKeyConverter(BaseConverter):
    """A key, which may have slashes in it, in front of ``/retry``."""

    CONSUME_MULTIPLE_SEGMENTS = True

    def convert(self, value: Sequence[str]) -> str | None:
        """Called by Falcon with the rest of the path; None: no such path."""
        *key, last = value
        return "/".join(key) or None if last == "retry" else None


def lag_seconds(model: ReadModelStatus) -> float:
    """The age of the oldest event that is not folded yet."""
    return max((segment.lag_seconds for segment in model.segments), default=0.0)


def parked_keys(model: ReadModelStatus) -> int:
    """Keys whose events wait for a fix."""
    return sum(segment.parked_keys for segment in model.segments)


def read_model_document(model: ReadModelStatus) -> ReadModelAnswer:
    """A read model as it is told to people and programs."""
    under_way = model.building_segments or model.segments
    return {
        "name": model.name,
        "version": model.version,
        "previous_version": model.previous_version,
        "building_version": model.building_version,
        "live": model.live,
        "previous": model.previous,
        "building": model.building,
        "held": model.held,
        "lag_events": lag_events(model.segments),
        "lag_seconds": lag_seconds(model),
        "events_per_second": rate(model.segments),
        "percent": _percent(under_way),
        "seconds_left": _seconds_left(under_way),
        "parked_keys": parked_keys(model),
        "segments": list(model.segments),
        "building_segments": list(model.building_segments),
    }


def lag_events(segments: Sequence[SegmentStatus]) -> int:
    """Events that are not folded yet."""
    return sum(segment.lag_events for segment in segments)


def rate(segments: Sequence[SegmentStatus]) -> float:
    """Events per second at present."""
    return round(sum(segment.events_per_second for segment in segments), 1)


def _seconds_left(segments: Sequence[SegmentStatus]) -> float | None:
    lag, events_per_second = lag_events(segments), rate(segments)
    return 0.0 if lag == 0 else round(lag / events_per_second, 1) if events_per_second else None


def _percent(segments: Sequence[SegmentStatus]) -> float:
    """Rounded down, so that 100 means all."""
    head = sum(segment.head for segment in segments)
    folded = sum(min(segment.checkpoint, segment.head) for segment in segments)
    return folded * 10_000 // head / 100 if head else 100.0
