"""Sends what a responder has found, as JSON, with an entity tag where a client may already have it."""

from hashlib import sha256
from typing import Any, NamedTuple

import falcon
import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict

TAG_LENGTH = 24


class Pagination(TypedDict):
    """Where a page stands. ``page`` is null on a page that a cursor has led to."""

    page: int | None
    per_page: int
    total: int
    pages: int


class Performance(TypedDict):
    """How long the answer took in the server, and where it came from: ``redis``, ``replica`` or ``archive``."""

    api_response_time_ms: float
    source: str


def pagination(page: int | None, per_page: int, total: int) -> Pagination:
    """The place of a page among ``total`` rows."""
    return Pagination(page=page, per_page=per_page, total=total, pages=-(-total // per_page))


def send(resp: Response, content: Any, status: int = 200) -> None:
    """An answer of the moment."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(content)


class Encoded(NamedTuple):
    """An answer as it is sent, and its entity tag."""

    body: bytes
    tag: str


def encode(content: Any) -> Encoded:
    """An answer and the tag that follows from it."""
    body = orjson.dumps(content)
    return Encoded(body, sha256(body).hexdigest()[:TAG_LENGTH])


def send_own(req: Request, resp: Response, content: Any, tag: str | None = None) -> None:
    """An answer for one user alone, whose entity tag is ``tag`` (and strong), else follows from it; 304 likewise."""
    encoded = encode(content)
    send_encoded(req, resp, encoded if tag is None else encoded._replace(tag=tag), own=True)
    if tag is not None:
        resp.set_header("ETag", f'"{tag}"')


def send_tagged(req: Request, resp: Response, content: Any) -> None:
    """An answer of a read model; 304 where the client's is the same."""
    send_encoded(req, resp, encode(content))


def send_encoded(req: Request, resp: Response, encoded: Encoded, passing: bytes = b"", *, own: bool = False) -> None:
    """An answer of a read model; 304 where the client reads again what it has.

    The member ``passing``, such as the time the answer took, is sent too but does not make it another answer. One that
    is of one's ``own`` is for no cache that others share.
    """
    body, tag = encoded
    resp.set_header("ETag", f'W/"{tag}"')
    resp.set_header("Cache-Control", "private, no-cache" if own else "no-cache")
    known = req.get_header("If-None-Match") if req.method in ("GET", "HEAD") else None
    if known is not None and (f'"{tag}"' in known or known.strip() == "*"):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = falcon.MEDIA_JSON
    resp.data = b"%b,%b}" % (body[:-1], passing) if passing else body
