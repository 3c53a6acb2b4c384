"""What an operation takes and answers, declared once: validation obeys it, and ``/openapi.json`` is made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from falcon.asgi import Request, Response

from readapi.http.deadlines import DeadlineExceededError, with_deadline
from readapi.http.identities import Scope
from readapi.http.parameters import Parameters, parse
from readapi.http.problems import unavailable

ANSWER_SECONDS = 60.0
"""How long a request may take, the arrival of its body included: longer than any wait that is asked for."""

Responder = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Operation:
    """The declaration of one responder."""

    summary: str
    scope: Scope | None
    """What a token must have; None where everybody may ask, and be nobody."""
    responses: Mapping[int, Any]
    """Status -> type of the JSON answer; a text for a media type that is not JSON; None for no content."""
    query: type[Parameters] = Parameters
    path: Mapping[str, str] = field(default_factory=dict)
    """Path parameters and what they are."""
    body: Any = None
    """Type of the JSON body."""
    body_required: bool = True
    problems: tuple[int, ...] = ()
    """Besides 400 and 500, which every operation may answer, and those of access."""
    reads: bool = False
    """Whether it is answered from a build of the resource's ``read_model``: positions, entity tags and all."""
    uses_cache: bool = False
    """Whether the resource is asked first if it has ``send_cached``."""
    is_stream: bool = False
    """Whether it goes on as long as the client stays; all others must have answered in time."""
    writes: bool = False
    """Whether it answers with the positions it was given."""
    uses_if_match: bool = False
    """Whether it heeds ``If-Match``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of its answers besides those of every read and write, and what they are."""
    completes_parameters: bool = False
    """Whether the resource may add to the parameters (``complete``) before they are validated."""


def operation(
    summary: str, *, scope: Scope | None, responses: Mapping[int, Any], **declared: Any
) -> Callable[[Responder], Responder]:
    """Declare a responder; it is called as ``(self, req, resp, query, **path)`` with its parameters validated.

    One that ``reads`` is also given ``live``, the build that the whole of its answer must be from.
    """
    described = Operation(summary, scope, responses, **declared)

    def decorate(responder: Responder) -> Responder:
        async def answer(self: Any, req: Request, resp: Response, path: dict[str, Any]) -> None:
            given = await self.complete_parameters(req) if described.completes_parameters else req.params
            query = parse(described.query, given)
            if described.reads:
                path["live"] = await self.prepare(req, resp, query)
            await responder(self, req, resp, query, **path)

        @wraps(responder)
        async def respond(self: Any, req: Request, resp: Response, **path: Any) -> None:
            if described.uses_cache and self.send_cached(req, resp):
                return
            if described.is_stream:
                await responder(self, req, resp, parse(described.query, req.params), **path)
                return
            try:
                await with_deadline(ANSWER_SECONDS, answer(self, req, resp, path))
            except DeadlineExceededError:
                raise unavailable(f"there was no answer within {ANSWER_SECONDS:g} s; try again") from None

        respond.operation = described  # type: ignore[attr-defined]
        return respond

    return decorate


def operation_of(resource: object, method: str) -> Operation | None:
    """What the resource declares for an HTTP method, in small letters, or for ``websocket``."""
    return getattr(getattr(resource, f"on_{method}", None), "operation", None)


class Resource:
    """Base of every resource: who can be asked with GET can be asked with HEAD."""

    async def prepare(self, req: Request, resp: Response, query: Any) -> Any:
        """What an operation that reads is answered from: what is live of the resource's ``read_model``."""
        del query
        return await self.read_model.prepare(req, resp)  # type: ignore[attr-defined]

    async def on_head(self, req: Request, resp: Response, **path: str) -> None:
        """The server sends the head of the answer alone."""
        await self.on_get(req, resp, **path)  # type: ignore[attr-defined]
