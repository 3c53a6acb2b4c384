"""JSON responses with entity tags (RFC 9110, section 8.8.3), cache headers and pagination."""

import time
from typing import Any, NamedTuple

import falcon
import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict
from xxhash import xxh3_128_hexdigest

ETAG_LENGTH = 24
"""Number of hexadecimal digits in an entity tag."""


class Pagination(TypedDict):
    """The position of a page in the whole result.

    ``total`` is the exact number of rows and ``pages`` the number of pages. ``page`` is null on a page that was
    requested with a cursor.
    """

    page: int | None
    per_page: int
    total: int
    pages: int


class Performance(TypedDict):
    """The response time of the server in milliseconds, and the source: ``redis``, ``replica`` or ``archive``."""

    api_response_time_ms: float
    source: str


def pagination(page: int | None, per_page: int, total: int) -> Pagination:
    """Describe the position of a page among ``total`` rows."""
    return {"page": page, "per_page": per_page, "total": total, "pages": -(-total // per_page)}


def send(resp: Response, content: Any, status: int = 200) -> None:
    """Send JSON without an entity tag."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(content)


class Encoded(NamedTuple):
    """An encoded JSON body and its entity tag."""

    body: bytes
    tag: str


def encode(content: Any) -> Encoded:
    """Encode JSON and derive the entity tag from the body."""
    return tagged(orjson.dumps(content))


def tagged(body: bytes) -> Encoded:
    """Derive the entity tag from an encoded body."""
    return Encoded(body, xxh3_128_hexdigest(body)[:ETAG_LENGTH])


def send_private(req: Request, resp: Response, content: Any, strong_tag: str | None = None) -> None:
    """Send JSON that only the requesting user may see, or 304 if the client has the same content.

    Args:
        req: The request.
        resp: The response.
        content: The JSON content.
        strong_tag: The strong entity tag. If it is None, the response has a weak tag derived from the content.
    """
    encoded = encode(content)
    send_encoded(req, resp, encoded if strong_tag is None else encoded._replace(tag=strong_tag), is_private=True)
    if strong_tag is not None:
        resp.set_header("ETag", f'"{strong_tag}"')


def send_with_etag(req: Request, resp: Response, content: Any) -> None:
    """Send JSON with a weak entity tag, or 304 if the client has the same content."""
    send_encoded(req, resp, encode(content))


def send_encoded(
    req: Request, resp: Response, encoded: Encoded, volatile_member: bytes = b"", *, is_private: bool = False
) -> None:
    """Send an encoded body with a weak entity tag, or 304 if the client has the same content.

    Args:
        req: The request.
        resp: The response.
        encoded: The encoded JSON object.
        volatile_member: A member to add to the JSON object that does not affect the entity tag, such as the response
            time.
        is_private: Whether shared caches must not store the response.
    """
    body, tag = encoded
    resp.set_header("ETag", f'W/"{tag}"')
    resp.set_header("Cache-Control", "private, no-cache" if is_private else "no-cache")
    if req.method in ("GET", "HEAD") and is_known(req, tag):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = falcon.MEDIA_JSON
    resp.data = with_member(body, volatile_member) if volatile_member else body


def is_known(req: Request, tag: str) -> bool:
    """Return whether the client has the content with this entity tag, as it says in ``If-None-Match``."""
    known = req.get_header("If-None-Match")
    return known is not None and (f'"{tag}"' in known or known.strip() == "*")


def with_member(body: bytes, member: bytes) -> bytes:
    """Add an encoded member to an encoded JSON object that is not empty."""
    return b"%b,%b}" % (body[:-1], member)


def performance(req: Request, source: str) -> bytes:
    """Encode the JSON member ``performance``: response time in milliseconds, and the source of the answer."""
    milliseconds = (time.perf_counter() - req.context.started) * 1_000
    return b'"performance":{"api_response_time_ms":%.3f,"source":"%b"}' % (milliseconds, source.encode())
