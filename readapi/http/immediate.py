"""Immediate answers: requests that are answered from memory at once, past ASGI and Falcon.

A task, an event, and the request and response of a framework cost more than a scan. TickView's own web server therefore
asks the application for an immediate answer as soon as the head of a request has arrived. If the answer would have to
wait for anything, the request takes the usual way through Falcon.

An immediate answer is a coroutine whose only waits are ``yield_to_cohort``. The web server runs the coroutines of all
requests that arrive in one turn of the event loop step by step. Data in memory does not change meanwhile.
"""

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

import falcon
from falcon.asgi import Request

from readapi.http.problems import Problem, encode_problem
from readapi.http.responses import Encoded, is_known, with_member


class ImmediateAnswer(NamedTuple):
    """A complete response.

    Attributes:
        status: The status.
        headers: The header lines, each with its line end, without ``Content-Length``.
        body: The body. Empty with status 304.
    """

    status: int
    headers: bytes
    body: bytes


ImmediateWork = Coroutine[Any, Any, ImmediateAnswer | None]
"""The work on an answer. None: the request must take the way through the ASGI application."""

AnswerImmediately = Callable[[dict[str, Any]], ImmediateWork | None]
"""Returns the work on the answer to the request of an ASGI scope. None: this request has no immediate answer."""


class ImmediateResource(Protocol):
    """A resource that can answer GET requests from memory."""

    def can_answer(self, req: Request) -> bool:
        """Return whether the answer needs no wait, whatever it is."""
        ...

    async def answer(self, req: Request) -> ImmediateAnswer:
        """Answer a request that ``can_answer`` accepts. Waits only by ``yield_to_cohort``. Raises Problem."""
        ...


_FOUND = f'etag: W/"%b"\r\ncache-control: no-cache\r\n%bcontent-type: {falcon.MEDIA_JSON}\r\n'.encode()
_NOT_MODIFIED = b'etag: W/"%b"\r\ncache-control: no-cache\r\n%b'


def found(req: Request, encoded: Encoded, headers: bytes, volatile_member: bytes) -> ImmediateAnswer:
    """Return the answer 200 with an entity tag, or 304 if the client has the same content.

    Args:
        req: The request.
        encoded: The encoded JSON object.
        headers: Further header lines.
        volatile_member: See ``send_encoded``.
    """
    body, tag = encoded
    if is_known(req, tag):
        return ImmediateAnswer(304, _NOT_MODIFIED % (tag.encode(), headers), b"")
    return ImmediateAnswer(200, _FOUND % (tag.encode(), headers), with_member(body, volatile_member))


def refused(problem: Problem) -> ImmediateAnswer:
    """Return the answer with a problem."""
    headers = b"".join([b"%b: %b\r\n" % header for header in problem.encoded_headers()])
    return ImmediateAnswer(problem.status.value, headers, encode_problem(problem))
