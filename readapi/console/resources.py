"""Resources that serve the console. They are open to clients without a token: the files contain no data."""

import falcon
from falcon.asgi import Request, Response

from readapi.console.files import PAGE, console_files, security_policy
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import not_found

_HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Content-Type-Options": "nosniff",
}


class PageResource(Resource):
    """The page of the console. At ``/docs``, its scripts begin with the API reference."""

    @operation("Show the console.", scope=None, responses={200: "text/html"})
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Send the page."""
        _send_file(req, resp, PAGE)


class FileResource(Resource):
    """A script, a style sheet or an image of the console."""

    @operation("Load a file of the console.", scope=None, responses={200: "text/javascript"})
    async def on_get(self, req: Request, resp: Response, _query: Parameters, name: str) -> None:
        """Send the file. Without a name, redirect to the page. Raises Problem (404)."""
        if not name:
            raise falcon.HTTPPermanentRedirect("../console")
        _send_file(req, resp, name)


def _send_file(req: Request, resp: Response, name: str) -> None:
    file = console_files().get(name)
    if file is None:
        raise not_found(f"file {name[:200]!a} in the console")
    resp.set_headers(_HEADERS)
    resp.set_header("Content-Security-Policy", security_policy())
    resp.set_header("ETag", f'"{file.tag}"')
    if f'"{file.tag}"' in (req.get_header("If-None-Match") or ""):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = file.media_type
    if "gzip" in (req.get_header("Accept-Encoding") or ""):
        resp.set_header("Content-Encoding", "gzip")
        resp.data = file.compressed
    else:
        resp.data = file.content


def console_routes(*, has_own_root: bool) -> dict[str, object]:
    """Return the resources of the console by path.

    Args:
        has_own_root: Whether ``/`` and ``/docs`` belong to TickView. A host application keeps its own.
    """
    page = PageResource()
    routes: dict[str, object] = {"/console": page, "/console/{name:path}": FileResource()}
    return {"/": page, "/docs": page, **routes} if has_own_root else routes
