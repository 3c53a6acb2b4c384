"""Problem details (RFC 9457): the responses to requests that cannot be served, and the handlers that send them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NotRequired

import falcon
import orjson
import structlog
from falcon.asgi import App, Request, Response, WebSocket
from typing_extensions import TypedDict

from domain.errors import TickViewError
from domain.list_rules import InvalidListError, NameTakenError, NoSuchListError, OutdatedError, WorkspaceError
from projections.versions import NoSuchBuildError
from readapi.http.client_stream import find_socket_stream
from readapi.http.websocket_refusal import CODE_OFFSET, close_reason, refuse_handshake
from readapi.ports.errors import NoSuchReadModelError, NotFoldableError, StateConflictError, UnavailableError

Application = App[Request, Response]

logger = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

RETRY_AFTER_SECONDS = 1
"""Default of the header ``Retry-After``."""


class FieldError(TypedDict):
    """An error in one query parameter, header or part of the body. ``reason`` continues a sentence about ``field``."""

    field: str
    reason: str


class ProblemDocument(TypedDict):
    """Problem details as defined by RFC 9457. ``detail`` says what was wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str
    errors: NotRequired[list[FieldError]]


class Problem(TickViewError):  # noqa: N818 the term of RFC 9457
    """An error that ends a request with problem details.

    Args:
        status: The status of the response.
        kind: The last part of the problem's ``type``.
        detail: The fault, and the action that corrects it.
        errors: The fields that are wrong.
        headers: Headers of the response.
        members: Further members of the JSON document.
    """

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

    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the response, with the type of its content, as ASGI has them."""
        headers = {"Content-Type": MEDIA_TYPE, **self.headers}
        return [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
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
    """Create the problem 400 for a request with wrong fields."""
    detail = "; ".join(f"{error['field']} {error['reason']}" for error in errors)
    return Problem(HTTPStatus.BAD_REQUEST, "invalid-request", detail, errors)


def not_found(subject: str) -> Problem:
    """Create the problem 404. ``subject`` names the missing resource."""
    return Problem(HTTPStatus.NOT_FOUND, "not-found", f"there is no {subject}")


def unavailable(detail: str, retry_after: int = RETRY_AFTER_SECONDS) -> Problem:
    """Create the problem 503 for a temporary failure. ``retry_after`` is in seconds."""
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, "unavailable", detail, headers={"Retry-After": str(retry_after)})


def no_archive() -> Problem:
    """Create the problem 503 for a service without an archive."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "no-archive",
        "this request needs the archive, and this service has none: set TICKVIEW_POSTGRES_DSN",
    )


def workspace_problem(error: WorkspaceError) -> Problem:
    """Create the problem 404, 409, 412 or 422 for a refused command on a user's lists."""
    match error:
        case NoSuchListError():
            return Problem(HTTPStatus.NOT_FOUND, "not-found", str(error))
        case NameTakenError():
            return Problem(HTTPStatus.CONFLICT, "name-taken", str(error))
        case OutdatedError(version=version):
            tag = f'"{version}"'
            detail = f"the list has changed: its version is now {version} and its ETag is {tag}; read the list again"
            return Problem(HTTPStatus.PRECONDITION_FAILED, "precondition-failed", detail, headers={"ETag": tag})
        case InvalidListError(faults=faults):
            errors = [FieldError(field=field, reason=reason) for field, reason in faults]
            return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid-list", str(error), errors)
    raise error


def handle_errors(
    app: Application,
    store_errors: tuple[type[Exception], ...],
    describe_store_error: Callable[[Exception], UnavailableError | None],
    *,
    is_host: bool = False,
) -> None:
    """Register the error handlers, which turn errors into problems.

    Args:
        app: The application.
        store_errors: The base classes of the errors that queries to the store of the read models raise.
        describe_store_error: Returns why the store is unavailable, or None if such an error is a defect.
        is_host: Whether ``app`` is the host of TickView. The host keeps its handlers for all other errors.
    """
    if not is_host:
        app.add_error_handler(Exception, _handle_unexpected_error)
        app.add_error_handler(falcon.HTTPError, _handle_http_error)
    for error in store_errors:
        app.add_error_handler(error, _store_error_handler(describe_store_error, is_host=is_host))
    app.add_error_handler(UnavailableError, _handle_unavailable)
    app.add_error_handler(NoSuchReadModelError, _handle_no_such_read_model)
    app.add_error_handler(NoSuchBuildError, _handle_no_such_build)
    app.add_error_handler(NotFoldableError, _handle_not_foldable)
    app.add_error_handler(StateConflictError, _handle_state_conflict)
    app.add_error_handler(WorkspaceError, _handle_workspace_error)
    app.add_error_handler(Problem, _handle_problem)


def encode_problem(problem: Problem) -> bytes:
    """Encode the JSON document of a problem."""
    return orjson.dumps(problem.document())


async def _send(req: Request, resp: Response | None, problem: Problem, ws: WebSocket | None) -> None:
    """Send the problem. Without a response object, the request is a WebSocket, which is refused or closed."""
    body = encode_problem(problem)
    if resp is None:
        stream = find_socket_stream(req)
        if stream is not None:
            await stream.refuse(problem.status.value, problem.encoded_headers(), body)
        elif ws is not None and ws.unaccepted:
            # Falcon has no response to a handshake other than the acceptance.
            send = ws._asgi_send
            await refuse_handshake(req.scope, send, problem.status.value, problem.encoded_headers(), body, str(problem))
        elif ws is not None:
            await ws.close(CODE_OFFSET + problem.status.value, close_reason(str(problem)))
        return
    resp.status = problem.status.value
    resp.content_type = MEDIA_TYPE
    resp.data = body
    resp.text = None
    resp.set_headers(dict(problem.headers))


def _store_error_handler(
    describe: Callable[[Exception], UnavailableError | None], *, is_host: bool
) -> Callable[..., Awaitable[None]]:
    async def handle(
        req: Request, resp: Response | None, error: Exception, params: Any, ws: WebSocket | None = None
    ) -> None:
        reason = describe(error)
        if reason is None and is_host:
            raise error
        if reason is None:
            await _handle_unexpected_error(req, resp, error, params, ws)
            return
        logger.warning("read-model store unavailable", path=req.path, error=str(error))
        await _handle_unavailable(req, resp, reason, params, ws)

    return handle


async def _handle_problem(
    req: Request, resp: Response | None, problem: Problem, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, problem, ws)


async def _handle_workspace_error(
    req: Request, resp: Response | None, error: WorkspaceError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, workspace_problem(error), ws)


async def _handle_unavailable(
    req: Request, resp: Response | None, error: UnavailableError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, unavailable(str(error), error.retry_after), ws)


async def _handle_no_such_read_model(
    req: Request, resp: Response | None, error: NoSuchReadModelError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.NOT_FOUND, "not-found", str(error)), ws)


async def _handle_no_such_build(
    req: Request, resp: Response | None, error: NoSuchBuildError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.CONFLICT, "no-such-build", str(error)), ws)


async def _handle_not_foldable(
    req: Request, resp: Response | None, error: NotFoldableError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.CONFLICT, "not-foldable", str(error)), ws)


async def _handle_state_conflict(
    req: Request, resp: Response | None, error: StateConflictError, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, Problem(HTTPStatus.CONFLICT, error.kind, str(error)), ws)


_DETAILS = {
    404: "there is no resource at this path; /openapi.json lists all paths",
    405: "this path does not support this method; the header Allow lists the supported methods",
}


async def _handle_http_error(
    req: Request, resp: Response | None, error: falcon.HTTPError, _params: Any, ws: WebSocket | None = None
) -> None:
    status = HTTPStatus(error.status_code)
    detail = _DETAILS.get(status) or error.description or status.description
    kind = status.phrase.lower().replace(" ", "-")
    await _send(req, resp, Problem(status, kind, detail, headers=dict(error.headers or {})), ws)


async def _handle_unexpected_error(
    req: Request, resp: Response | None, error: Exception, _params: Any, ws: WebSocket | None = None
) -> None:
    await _send(req, resp, unexpected(req, error), ws)


def unexpected(req: Request, error: Exception) -> Problem:
    """Log an error in full, and create the problem 500 without its details."""
    logger.error("request failed", method=req.method, path=req.path, exc_info=error)
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "the service failed; its log has the reason")
