"""The limit: Falcon on the server of the API, without middleware, sending one body again and again."""

import sys

import falcon
from falcon.asgi import App, Request, Response

from infra.bench.contenders.web_app import serve


class Constant:
    """Answers every GET with what was last posted."""

    def __init__(self) -> None:
        self._body = b"{}"

    async def on_get(self, _req: Request, resp: Response) -> None:
        """The body."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = self._body

    async def on_post(self, req: Request, _resp: Response) -> None:
        """Another body from now on."""
        self._body = await req.stream.read()


def create_app() -> App[Request, Response]:
    """The application."""
    app = App()
    constant = Constant()
    app.add_route("/api/health", constant)
    app.add_route("/api/patterns/scan", constant)
    return app


if __name__ == "__main__":
    serve(int(sys.argv[1]), create_app)
