"""Operations: declarations of the parameters, the bodies and the responses of responders.

The declaration validates each request, and ``/openapi.json`` is made from it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from falcon.asgi import Request, Response

from readapi.http.deadlines import DeadlineExceededError, with_deadline
from readapi.http.identities import Scope
from readapi.http.parameters import Parameters, parse_parameters
from readapi.http.problems import unavailable

RESPONSE_SECONDS = 60.0
"""Highest number of seconds for a request, including the arrival of its body. No wait for a position is longer."""

Responder = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Operation:
    """The declaration of one responder."""

    summary: str
    scope: Scope | None
    """Scope that the client needs, or None if the operation is open to clients without a token."""
    responses: Mapping[int, Any]
    """Type of the JSON body by status. A ``str`` is a media type other than JSON. None means no body."""
    query: type[Parameters] = Parameters
    path: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of the path parameters, by name."""
    example: Any = None
    """An example of the answer, if it does not follow from the type."""
    downloads: tuple[str, ...] = ()
    """Media types other than JSON in which the client can request the response with status 200."""
    body: Any = None
    """Type of the JSON body of the request."""
    body_required: bool = True
    """Whether a request without a body is refused."""
    problems: tuple[int, ...] = ()
    """Statuses of further problems. Every operation also has the problems of access control, and 400, 408, 431, 500."""
    reads: bool = False
    """Whether the response is made from a build of the resource's ``read_model``, with positions and entity tags."""
    uses_cache: bool = False
    """Whether the resource has a method ``send_cached``, which is called first and may send a cached response."""
    is_stream: bool = False
    """Whether the response lasts as long as the connection. All other responses have a deadline."""
    writes: bool = False
    """Whether the response says at which positions the events were recorded."""
    uses_if_match: bool = False
    """Whether the responder reads the header ``If-Match``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Descriptions of further response headers, by name."""
    completes_parameters: bool = False
    """Whether the resource has a method ``complete_parameters``, which may add parameters before the validation."""


def operation(
    summary: str, *, scope: Scope | None, responses: Mapping[int, Any], **declaration: Any
) -> Callable[[Responder], Responder]:
    """Declare a responder.

    The responder is called as ``(self, req, resp, query, **path)`` with valid parameters. If the operation ``reads``,
    the responder also gets ``live``, the build from which the whole response must be made.

    Args:
        summary: The summary in the OpenAPI document: an imperative sentence.
        scope: See ``Operation``.
        responses: See ``Operation``.
        declaration: Further fields of ``Operation``.
    """
    declared = Operation(summary, scope, responses, **declaration)

    def decorate(responder: Responder) -> Responder:
        async def prepare_and_respond(self: Any, req: Request, resp: Response, path: dict[str, Any]) -> None:
            parameters = await self.complete_parameters(req) if declared.completes_parameters else req.params
            query = parse_parameters(declared.query, parameters)
            if declared.reads:
                path["live"] = await self.prepare(req, resp, query)
            await responder(self, req, resp, query, **path)

        @wraps(responder)
        async def respond(self: Any, req: Request, resp: Response, **path: Any) -> None:
            if declared.uses_cache and self.send_cached(req, resp):
                return
            if declared.is_stream:
                await responder(self, req, resp, parse_parameters(declared.query, req.params), **path)
                return
            try:
                await with_deadline(RESPONSE_SECONDS, prepare_and_respond(self, req, resp, path))
            except DeadlineExceededError:
                raise unavailable(f"the service did not respond within {RESPONSE_SECONDS:g} s; try again") from None

        respond.operation = declared  # type: ignore[attr-defined]
        return respond

    return decorate


def operation_of(resource: object, method: str) -> Operation | None:
    """Return the declaration of a responder, or None if there is none.

    Args:
        resource: The resource.
        method: An HTTP method in lower case, or ``websocket``.
    """
    return getattr(getattr(resource, f"on_{method}", None), "operation", None)


class Resource:
    """Base class of resources. It adds HEAD to each resource that has GET."""

    async def prepare(self, req: Request, resp: Response, query: Any) -> Any:
        """Return the build of the resource's ``read_model`` from which the whole response must be made."""
        del query
        return await self.read_model.prepare(req, resp)  # type: ignore[attr-defined]

    async def on_head(self, req: Request, resp: Response, **path: str) -> None:
        """Respond as to GET. The server sends the head alone."""
        await self.on_get(req, resp, **path)  # type: ignore[attr-defined]
