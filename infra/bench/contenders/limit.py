"""The contender ``limit``: Falcon on the server of the API, without middleware, which sends a constant body."""

import sys

import falcon
from falcon.asgi import App, Request, Response

from infra.bench.contenders.web_app import serve_application


class ConstantResource:
    """A resource that answers every GET request with the last posted body."""

    def __init__(self) -> None:
        self._body = b"{}"

    async def on_get(self, _req: Request, resp: Response) -> None:
        """Send the body."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._body

    async def on_post(self, req: Request, _resp: Response) -> None:
        """Replace the body."""
        self._body = await req.stream.read()


def create_app() -> App[Request, Response]:
    """Return the ASGI application."""
    app = App()
    constant = ConstantResource()
    app.add_route("/api/health", constant)
    app.add_route("/api/patterns/scan", constant)
    return app


if __name__ == "__main__":
    serve_application(int(sys.argv[1]), create_app())
