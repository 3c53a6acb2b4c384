"""``/api/projections``: the status of the read models, replay, rollback and parked keys."""

from collections.abc import Sequence
from typing import Annotated, Any

from falcon.asgi import Request, Response
from falcon.routing import BaseConverter
from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from readapi.http.bodies import json_integer, read_body, read_optional_body
from readapi.http.identities import identity_of
from readapi.http.job_documents import JobDocument, job_document
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found
from readapi.http.responses import send
from readapi.operations.read_model_documents import ReadModelDocument, read_model_document
from readapi.ports.jobs import Job
from readapi.ports.operations import Operations, ParkedKey

NAME_PATH = {"name": "Name of the read model."}

MAX_BODY_BYTES = 10_000
"""Highest number of bytes in the body of a replay request."""


class ProjectionsDocument(TypedDict):
    """The status of every read model."""

    projections: list[ReadModelDocument]


class ProjectionDocument(TypedDict):
    """The status of one read model after a command."""

    projection: ReadModelDocument


class ReplayOptions(Parameters):
    """Options of a replay. Every option has a default."""

    throttle: Annotated[int, Field(ge=0, le=10**9), BeforeValidator(json_integer)] = 0
    """Highest number of events per second that the new build folds in each segment. 0 means no limit."""
    hold: bool = False
    """Whether the new build waits for an operator after it has caught up, instead of going live by itself."""


class BuildDifference(TypedDict):
    """A field in which a row of the new build differs from the row of the old build.

    ``field`` is empty if only one build has the row. Then ``old`` or ``new`` is the whole row, and the other is null.
    """

    key: str
    field: str
    old: Any
    new: Any


class BuildDifferences(TypedDict):
    """The number of all differences, and the first of them: at most 100, and about 1 MB."""

    count: int
    differences: list[BuildDifference]


class ReplayVerification(JobDocument):
    """A comparison of two builds, row by row. ``result`` is null until the comparison is finished."""

    old: str
    new: str
    result: BuildDifferences | None


class ReplayVerificationAnswer(TypedDict):
    """The last comparison of builds; null if there was none."""

    verification: ReplayVerification | None


class SwitchOptions(Parameters):
    """The build that goes live."""

    build: Annotated[str, Field(pattern="^[0-9]{1,9}[.][0-9]{1,9}$")]
    """Name of the build under way, ``<version>.<number>``."""


class ParkedKeysDocument(TypedDict):
    """The parked keys of the live build, at most 1,000 per log.

    ``events`` is the number of waiting events of a key. ``error``, ``position`` and ``since`` (epoch seconds) describe
    the first waiting event.
    """

    parked: list[ParkedKey]


class ParkedKeyRetryDocument(TypedDict):
    """The parked key that workers will retry."""

    retrying: str


class ProjectionsResource(Resource):
    """The read models."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "List the read models and their status.", scope="read", responses={200: ProjectionsDocument}, problems=(503,)
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the status of every read model."""
        models = await self._operations.read_models()
        send(resp, ProjectionsDocument(projections=[read_model_document(model) for model in models]))


class ReplayResource:
    """The command that builds a read model anew."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Build a read model anew beside the live build, or join the build under way.",
        scope="operate",
        responses={202: ProjectionDocument},
        path=NAME_PATH,
        body=ReplayOptions,
        body_required=False,
        problems=(404, 409, 413, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Start the replay. 202: workers begin the build, and the response contains its present progress.

        409: no running worker has the code of this process, or there is no live build yet.
        """
        options = await read_optional_body(req, ReplayOptions, MAX_BODY_BYTES)
        operator = identity_of(req).sender
        model = await self._operations.replay(name, operator, held=options.hold, throttle=options.throttle)
        send(resp, ProjectionDocument(projection=read_model_document(model)), 202)


class ReplayVerificationResource(Resource):
    """The comparison of the build under way with the live build."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Compare the build under way with the live build or, if there is none, the live build with the previous one.",
        scope="operate",
        responses={202: ReplayVerificationAnswer},
        path=NAME_PATH,
        problems=(404, 409, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Start the comparison. 202: a process compares all rows.

        409: a comparison is under way, the build has not caught up with the logs, or there is only one build.
        """
        job = await self._operations.verify_replay(name, identity_of(req).sender)
        send(resp, ReplayVerificationAnswer(verification=_verification_document(job)), 202)

    @operation(
        "Show the progress and the result of the last comparison of builds.",
        scope="operate",
        responses={200: ReplayVerificationAnswer},
        path=NAME_PATH,
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Send the state of the comparison."""
        job = await self._operations.replay_verification(name)
        send(resp, ReplayVerificationAnswer(verification=_verification_document(job) if job else None))


def _verification_document(job: Job) -> ReplayVerification:
    return {**job_document(job), "old": job.options["old"], "new": job.options["new"], "result": job.result}


class SwitchResource:
    """The command that makes a held build live."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Make the build under way live.",
        scope="operate",
        responses={200: ProjectionDocument},
        path=NAME_PATH,
        body=SwitchOptions,
        problems=(404, 409, 413, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Switch. 409: the build is not under way or has not caught up, or no running worker can fold the build."""
        options = await read_body(req, SwitchOptions, MAX_BODY_BYTES)
        model = await self._operations.switch(name, options.build, identity_of(req).sender)
        send(resp, ProjectionDocument(projection=read_model_document(model)))


class RollbackResource:
    """The command that makes the previous build live again."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Make the previous build of a read model live again.",
        scope="operate",
        responses={200: ProjectionDocument},
        path=NAME_PATH,
        problems=(404, 409, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Roll back. 409: the read model has no previous build, or no running worker can fold the previous build."""
        model = await self._operations.rollback(name, identity_of(req).sender)
        send(resp, ProjectionDocument(projection=read_model_document(model)))


class ParkedKeysResource(Resource):
    """The parked keys of one read model."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "List the keys of a read model whose events could not be folded.",
        scope="operate",
        responses={200: ParkedKeysDocument},
        path=NAME_PATH,
        problems=(404, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Send the parked keys of the live build."""
        send(resp, ParkedKeysDocument(parked=list(await self._operations.parked(name))))


class ParkedKeyRetryResource:
    """The command that retries a parked key."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @operation(
        "Retry the events of a parked key in order.",
        scope="operate",
        responses={202: ParkedKeyRetryDocument},
        path={**NAME_PATH, "key": "The parked key, percent-encoded."},
        problems=(404, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters, name: str, key: str) -> None:
        """Request the retry. 202: the worker of the segment retries. The key stays parked if an event fails again."""
        if not await self._operations.retry_parked(name, key, identity_of(req).sender):
            raise not_found(f"parked key {key!r} in {name}")
        send(resp, ParkedKeyRetryDocument(retrying=key), 202)


class ParkedKeyConverter(BaseConverter):
    """A converter for ``{key}/retry`` at the end of a path. The key may contain slashes."""

    CONSUME_MULTIPLE_SEGMENTS = True

    def convert(self, value: Sequence[str]) -> str | None:
        """Return the key, or None if the path does not end with ``/retry``.

        Args:
            value: The remaining segments of the path.
        """
        *key, last = value
        return "/".join(key) or None if last == "retry" else None
