"""Answers to requests that cannot be served: RFC 9457 problems that say what was wrong and what to do."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NotRequired

import falcon
import orjson
import structlog
from falcon.asgi import App, Request, Response, WebSocket
from typing_extensions import TypedDict

from domain.errors import TickViewError
from domain.list_rules import InvalidListError, NameTakenError, WorkspaceError
from domain.workspace import NoSuchListError, OutdatedError
from projections.versions import NoSuchBuildError
from readapi.http.client_stream import NoStreamError, find_stream
from readapi.ports.errors import NoSuchReadModelError, UnavailableError

Application = App[Request, Response]

logger = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 1

WEBSOCKET_CODES = 3_000
"""What Falcon adds to the status of a problem to get the code that closes a WebSocket."""


class FieldError(TypedDict):
    """What is wrong with one parameter, header or part of the body."""

    field: str
    reason: str


class ProblemDocument(TypedDict):
    """A problem, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]


class Problem(TickViewError):  # noqa: N818 the term of RFC 9457
    """Ends a request with a problem. ``members`` are added to the document."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.errors = errors
        self.headers = headers or {}
        self.members = members

    def document(self) -> dict[str, Any]:
        """What is sent."""
        document = {
            "type": f"urn:tickview:problem:{self.kind}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": str(self),
            **self.members,
        }
        if self.errors:
            document["errors"] = list(self.errors)
        return document


def invalid(errors: Sequence[FieldError]) -> Problem:
    """400: the request itself is wrong."""
    detail = "; ".join(f"{error['field']} {error['reason']}" for error in errors)
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-request", detail, errors)


def not_found(what: str) -> Problem:
    """404: there is no such thing."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", f"there is no {what}")


def unavailable(detail: str, retry_after: int = RETRY_AFTER_SECONDS) -> Problem:
    """503: not now."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers={"Retry-After": str(retry_after)})


def no_archive() -> Problem:
    """503: nobody here knows the past."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no-archive",
        "there is no archive here, which alone knows the past: the service needs TICKVIEW_POSTGRES_DSN",
    )


def of_workspace(error: WorkspaceError) -> Problem:
    """404, 409, 412 or 422: a command to a user's lists is refused."""
    match error:
        case NoSuchListError():
            return Problem(HTTPStatus.NOT_FOUND, "not-found", str(error))
        case NameTakenError():
            return Problem(HTTPStatus.CONFLICT, "name-taken", str(error))
        case OutdatedError(version=version):
            tag = f'"{version}"'
            detail = f"{error}, whose ETag is {tag}; read it again"
            return Problem(HTTPStatus.PRECONDITION_FAILED, "precondition-failed", detail, headers={"ETag": tag})
        case InvalidListError(faults=faults):
            errors = [FieldError(field=field, reason=reason) for field, reason in faults]
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-list", str(error), errors)
    raise error


def handle_errors(app: Application, away: tuple[type[Exception], ...], *, own: bool = True) -> None:
    """Make every error a problem; ``away`` are those that a read model's queries raise while their store is away.

    Of an application that is not our ``own``, errors that are not ours are left to it.
    """
    if own:
        app.add_error_handler(Exception, _on_fault)
        app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(NoStreamError, _on_no_stream)
    for error in away:
        app.add_error_handler(error, _on_away)
    app.add_error_handler(UnavailableError, _on_unavailable)
    app.add_error_handler(NoSuchReadModelError, _on_no_such_read_model)
    app.add_error_handler(NoSuchBuildError, _on_no_such_build)
    app.add_error_handler(WorkspaceError, _on_workspace_error)
    app.add_error_handler(Problem, _on_problem)


async def _send(req: Request, resp: Response | None, problem: Problem, ws: WebSocket | None) -> None:
    """Answer with the problem; without a response, it is a WebSocket that is refused."""
    body = orjson.dumps(problem.document())
    if resp is None:
        headers = {"Content-Type": MEDIA_TYPE, **problem.headers}
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        stream = find_stream(req)
        if stream is not None:
            await stream.refuse(problem.status.value, encoded, body)
        elif ws is not None:
            # All that plain ASGI has: the server answers 403, or closes what was accepted.
            await ws.close(WEBSOCKET_CODES + problem.status.value)
        return
    resp.status = problem.status.value
    resp.content_type = MEDIA_TYPE
    resp.data = body
    resp.text = None
    resp.set_headers(dict(problem.headers))


async def _on_away(
    req: Request, resp: Response | None, error: Exception, _params: Any, ws: WebSocket | None = None
) -> None:
    logger.warning("store away", path=req.path, error=str(error))
    await _send(req, resp, unavailable("the store of the read models cannot be reached; try again"), ws)


async def _on_problem(
    req: Request, resp: Response | None, problem: Problem, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, problem, ws)


async def _on_workspace_error(
    req: Request, resp: Response | None, error: WorkspaceError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, of_workspace(error), ws)


async def _on_unavailable(
    req: Request, resp: Response | None, error: UnavailableError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, unavailable(str(error), error.retry_after), ws)


async def _on_no_such_read_model(
    req: Request, resp: Response | None, error: NoSuchReadModelError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.NOT_FOUND, "not-found", str(error)), ws)


async def _on_no_such_build(
    req: Request, resp: Response | None, error: NoSuchBuildError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.CONFLICT, "no-such-build", str(error)), ws)


async def _on_no_stream(
    req: Request, resp: Response | None, _error: NoStreamError, _params: Any, ws: WebSocket | None = None
) -> None:
    detail = (
        "the server that runs this has no live push: give uvicorn --http infra.web_server.uvicorn:HttpStream "
        "--ws infra.web_server.uvicorn:WebSocketStream, or run `tickview serve` for it"
    )
    await _send(req, resp, Problem(HTTPStatus.NOT_IMPLEMENTED, "no-live-push", detail), ws)


_DETAILS = {
    404: "there is nothing at this path; /openapi.json lists what there is",
    405: "this path does not take this method",
}


async def _on_http_error(
    req: Request, resp: Response | None, error: falcon.HTTPError, _params: Any, ws: WebSocket | None = None
) -> None:
    status = HTTPStatus(error.status_code)
    detail = _DETAILS.get(status) or error.description or status.description
    kind = status.phrase.lower().replace(" ", "-")
    await _send(req, resp, Problem(status, kind, detail, headers=dict(error.headers or {})), ws)


async def _on_fault(
    req: Request, resp: Response | None, error: Exception, _params: Any, ws: WebSocket | None = None
) -> None:
    """A fault of ours: told to the log in full, and to the client not at all."""
    logger.error("request failed", method=req.method, path=req.path, exc_info=error)
    await _send(
        req,
        resp,
        Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the service failed; its log says why"),
        ws,
    )
