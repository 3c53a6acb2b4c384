"""Sends what a responder has found, as JSON, with an entity tag where a client may already have it."""

from base64 import urlsafe_b64encode
from hashlib import blake2b
from typing import Any

import falcon
import orjson
from falcon.asgi import Request, Response
from typing_extensions import TypedDict


class Pagination(TypedDict):
    """Where a page stands. ``page`` is null on a page that a cursor has led to."""

    page: int | None
    per_page: int
    total: int
    pages: int


def pagination(page: int | None, per_page: int, total: int) -> Pagination:
    """The place of a page among ``total`` rows."""
    return Pagination(page=page, per_page=per_page, total=total, pages=-(-total // per_page))


def send(resp: Response, content: Any, status: int = 200) -> None:
    """An answer of the moment."""
    resp.status = status
    resp.content_type = falcon.MEDIA_JSON
    resp.data = orjson.dumps(content)


def send_tagged(req: Request, resp: Response, content: Any, passing: Any = None) -> None:
    """An answer of a read model; 304 where the client's is the same.

    The members of ``passing``, such as the time the answer took, are sent too but do not make it another answer.
    """
    body = orjson.dumps(content)
    tag = urlsafe_b64encode(blake2b(body, digest_size=12).digest()).decode()
    resp.set_header("ETag", f'W/"{tag}"')
    resp.set_header("Cache-Control", "no-cache")
    known = req.get_header("If-None-Match")
    if known is not None and (f'"{tag}"' in known or known.strip() == "*"):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = falcon.MEDIA_JSON
    resp.data = body[:-1] + b"," + orjson.dumps(passing)[1:] if passing else body
