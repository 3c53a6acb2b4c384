"""Origins of web pages: which pages may read responses (CORS), and which pages may send requests that change data.

CORS alone is not enough. A browser hides the response from a foreign page, but sends the request. And CORS does not
apply to WebSockets.
"""

from typing import Any
from urllib.parse import urlsplit

import falcon
from falcon.asgi import Request, Response

from readapi.access.problems import foreign_origin
from readapi.http.read_model import POSITION_HEADER

EXPOSED_HEADERS = (POSITION_HEADER, "ETag", "Retry-After", "Location", "Warning", "WWW-Authenticate")
"""Response headers that pages may read in addition to the headers that CORS always exposes."""


class CrossOrigin(falcon.CORSMiddleware[Any, Any]):
    """CORS middleware for a list of origins, without credentials.

    It sets ``Vary: Origin``, because responses differ by origin.
    """

    def __init__(self, origins: frozenset[str]) -> None:
        super().__init__(allow_origins=origins, expose_headers=EXPOSED_HEADERS)

    async def process_response_async(self, req: Request, resp: Response, resource: object, req_succeeded: bool) -> None:
        """Set the CORS headers."""
        self.process_response(req, resp, resource, req_succeeded)
        resp.append_header("Vary", "Origin")


def check_origin(req: Request, origins: frozenset[str]) -> None:
    """Refuse a request from a page of another host whose origin is not in ``origins``. Raises Problem (403)."""
    origin = req.get_header("Origin")
    if origin is None or origin in origins:
        return
    if not _is_same_host(origin, req.get_header("Host")):
        raise foreign_origin(origin)


def _is_same_host(origin: str, host: str | None) -> bool:
    try:
        return host is not None and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False
