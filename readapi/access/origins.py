"""Pages of other sites: which of them may read answers (CORS), and which may ask for what changes something.

A browser keeps an answer from a foreign page, but it does send the request; and to WebSockets CORS does not apply.
"""

from typing import Any
from urllib.parse import urlsplit

import falcon
from falcon.asgi import Request, Response

from readapi.access.problems import foreign_origin
from readapi.http.read_model import POSITION_HEADER

EXPOSED = (POSITION_HEADER, "ETag", "Retry-After", "Location", "Warning", "WWW-Authenticate")
"""Headers of an answer that pages may read besides those that every page may."""


class CrossOrigin(falcon.CORSMiddleware[Any, Any]):
    """Falcon's, for named origins and without credentials; and caches are told that answers differ by origin."""

    def __init__(self, origins: frozenset[str]) -> None:
        super().__init__(allow_origins=origins, expose_headers=EXPOSED)

    async def process_response_async(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        """Allow what is allowed."""
        self.process_response(req, resp, resource, req_succeeded)
        resp.append_header("Vary", "Origin")


def check_origin(req: Request, origins: frozenset[str]) -> None:
    """Raises Problem (403) if the request comes from a page that is neither our own nor of ``origins``."""
    origin = req.get_header("Origin")
    if origin is None or origin in origins:
        return
    if not _is_own(origin, req.get_header("Host")):
        raise foreign_origin(origin)


def _is_own(origin: str, host: str | None) -> bool:
    """Whether a page of ``origin`` was served under the name that it asks now."""
    try:
        return host is not None and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
