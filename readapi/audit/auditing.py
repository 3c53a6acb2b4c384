"""``/api/audit/verify``, ``/api/audit/head`` and ``/api/audit/check``: verification of the archive, and its heads."""

from typing import Annotated, Any

from falcon.asgi import Request, Response
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator
from typing_extensions import TypedDict

from readapi.audit.parameters import bound_schema, parse_bound
from readapi.http.bodies import json_integer, read_body, read_optional_body
from readapi.http.identities import identity_of
from readapi.http.job_documents import JobDocument, job_document
from readapi.http.operation import Resource, operation
from readapi.http.parameters import LongName, Parameters, parse_iso_8601
from readapi.http.problems import no_archive
from readapi.http.responses import send
from readapi.ports.archive import Verification
from readapi.ports.audit import Auditor, CheckedHeads, Heads
from readapi.ports.jobs import Job

MAX_BODY_BYTES = 1_000_000
"""Highest number of bytes in the body of a request."""


def _bound_text(value: object) -> object:
    """Return a bound as text. A position may be a number."""
    number = json_integer(value)
    return str(number) if isinstance(number, int) and not isinstance(number, bool) else value


def _check_bound(text: str) -> str:
    if parse_bound(text) == 0:
        raise ValueError("should be a position from 1, or a time")
    return text


def _check_time(text: str) -> str:
    parse_iso_8601(text)
    return text


BoundText = Annotated[str, BeforeValidator(_bound_text), AfterValidator(_check_bound), WithJsonSchema(bound_schema(1))]
TimeText = Annotated[str, AfterValidator(_check_time), Field(json_schema_extra={"format": "moment"})]


class VerifyOptions(Parameters):
    """The part of the archive to verify. By default, everything is verified, and the result is recorded."""

    log: LongName | None = None
    """Name of one log. Default: all logs."""
    from_: BoundText | None = Field(None, alias="from")
    """First position of each log, or earliest time of recording (ISO 8601)."""
    to: BoundText | None = None
    """Last position of each log, or a time of recording after the latest event (ISO 8601)."""

    @field_validator("to")
    @classmethod
    def _check_order(cls, to: str | None, others: ValidationInfo) -> str | None:
        first, last = (None if text is None else parse_bound(text) for text in (others.data.get("from_"), to))
        if type(first) is type(last) and first is not None and last is not None and first > last:
            raise ValueError("should not be before from")
        return to


class HeadBody(Parameters):
    """The end of the hash chain of a log."""

    log: LongName
    position: Annotated[int, Field(ge=1, le=2**53), BeforeValidator(json_integer)]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    recorded_at: TimeText


class HeadsBody(Parameters):
    """Heads of an earlier time, as ``GET /api/audit/head`` or ``tickview audit head --json`` returned them."""

    heads: Annotated[list[HeadBody], Field(max_length=1_000)]
    taken_at: TimeText
    public_key: Annotated[str, Field(max_length=1_000)] | None = None
    signature: Annotated[str, Field(pattern="^[A-Za-z0-9+/]{86}==$")] | None = None


class VerificationRun(JobDocument):
    """A verification that an operator has started. ``log`` and the ends of the range are null without a bound.

    ``result`` is null until the verification is finished.
    """

    log: str | None
    since: str | None
    until: str | None
    result: Verification | None


class VerificationRunAnswer(TypedDict):
    """The last verification that an operator has started over HTTP; null if there was none."""

    run: VerificationRun | None


class HeadCheck(JobDocument):
    """A check of heads. ``result`` is null until the check is finished."""

    result: CheckedHeads | None


class HeadCheckAnswer(TypedDict):
    """The last check of heads; null if there was none."""

    check: HeadCheck | None


class _AuditorResource(Resource):
    """Base of the resources that need the archive."""

    def __init__(self, auditor: Auditor | None) -> None:
        self._auditor = auditor

    def require_auditor(self) -> Auditor:
        """Return the auditor. Raises Problem (503) if the service has no archive."""
        if self._auditor is None:
            raise no_archive()
        return self._auditor


class AuditVerifyResource(_AuditorResource):
    """The verification that an operator starts."""

    @operation(
        "Verify the archive, or a range of it.",
        scope="operate",
        responses={202: VerificationRunAnswer},
        body=VerifyOptions,
        body_required=False,
        problems=(409, 413, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Start the verification. 202: a process verifies. 409: a verification is under way."""
        auditor = self.require_auditor()
        options = (await read_optional_body(req, VerifyOptions, MAX_BODY_BYTES)).model_dump(by_alias=True)
        job = await auditor.verify(options, identity_of(req).sender)
        send(resp, VerificationRunAnswer(run=_run_document(job)), 202)

    @operation(
        "Show the progress and the result of the last verification that an operator has started.",
        scope="operate",
        responses={200: VerificationRunAnswer},
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the state of the verification."""
        job = await self.require_auditor().last_verification()
        send(resp, VerificationRunAnswer(run=_run_document(job) if job else None))


class AuditHeadResource(_AuditorResource):
    """The heads of the archive."""

    @operation(
        "Take the heads of the hash chains, signed if the service has a key.",
        scope="operate",
        responses={200: Heads},
        problems=(409, 503),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the heads. 409: the last event of a log is not the archived event, or the key cannot be read."""
        send(resp, await self.require_auditor().take_heads())


class AuditCheckResource(_AuditorResource):
    """The check of heads of an earlier time."""

    @operation(
        "Check that the present history extends heads of an earlier time.",
        scope="operate",
        responses={202: HeadCheckAnswer},
        body=HeadsBody,
        problems=(409, 413, 503),
    )
    async def on_post(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Start the check. 202: a process recomputes each chain from its beginning. 409: a check is under way."""
        auditor = self.require_auditor()
        body = await read_body(req, HeadsBody, MAX_BODY_BYTES)
        heads: Any = body.model_dump(exclude_none=True)
        job = await auditor.check_heads(heads, identity_of(req).sender)
        send(resp, HeadCheckAnswer(check=_check_document(job)), 202)

    @operation(
        "Show the progress and the result of the last check of heads.",
        scope="operate",
        responses={200: HeadCheckAnswer},
        problems=(503,),
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the state of the check."""
        job = await self.require_auditor().last_check()
        send(resp, HeadCheckAnswer(check=_check_document(job) if job else None))


def _run_document(job: Job) -> VerificationRun:
    options = job.options
    return {
        **job_document(job),
        "log": options["log"],
        "since": options["from"],
        "until": options["to"],
        "result": job.result,
    }


def _check_document(job: Job) -> HeadCheck:
    return {**job_document(job), "result": job.result}
