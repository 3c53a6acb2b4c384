"""Immediate routes: everything that happens to a request of one route, composed at the start into one function."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from falcon import RequestOptions
from falcon.asgi import Request

from readapi.access.guard import Guard
from readapi.http.immediate import AnswerImmediately, ImmediateAnswer, ImmediateResource, ImmediateWork, refused
from readapi.http.operation import Operation, operation_of
from readapi.http.problems import Problem, unexpected
from readapi.http.request_metrics import RequestMetrics

_BODY_HEADERS = frozenset((b"content-length", b"transfer-encoding", b"expect"))
"""Headers of a request that has or announces a body. An immediate answer would come before the body."""

_CORS_HEADERS = b"vary: Origin\r\n"
"""Headers of every response if there are foreign origins whose pages may read responses."""


def immediate_routes(
    resources: Mapping[str, ImmediateResource], guard: Guard, metrics: RequestMetrics
) -> AnswerImmediately:
    """Return the function that answers GET requests of some routes at once.

    Guard and metrics apply to these requests as to all others.

    Args:
        resources: The resources by path. The paths have no parameters.
        guard: Authenticates and authorises every request.
        metrics: Measures every request.
    """
    routes = {path: _route(path, resource, guard, metrics) for path, resource in resources.items()}
    find = routes.get

    def answer(scope: dict[str, Any]) -> ImmediateWork | None:
        route = find(scope["path"])
        return route(scope) if route and scope["method"] == "GET" else None

    return answer


def _route(
    path: str, resource: ImmediateResource, guard: Guard, metrics: RequestMetrics
) -> Callable[[dict[str, Any]], ImmediateWork]:
    declared = operation_of(resource, "get")
    assert declared is not None
    options = RequestOptions()
    respond = partial(_respond, resource, guard, declared)
    # A request of another site goes through the middleware for such requests.
    avoided = _BODY_HEADERS | ({b"origin"} if guard.origins else set())
    further_headers = _CORS_HEADERS if guard.origins else b""

    async def answer(scope: dict[str, Any]) -> ImmediateAnswer | None:
        started = time.perf_counter()
        if not avoided.isdisjoint([name for name, _ in scope["headers"]]) or not scope["query_string"].isascii():
            return None
        req = Request(scope, _receive_nothing, options=options)
        req.context.started = started
        if not resource.can_answer(req):
            return None
        response = await respond(req)
        metrics.record("GET", path, response.status, time.perf_counter() - started)
        return response._replace(headers=response.headers + further_headers) if further_headers else response

    return answer


async def _respond(resource: ImmediateResource, guard: Guard, declared: Operation, req: Request) -> ImmediateAnswer:
    """Let the guard admit a request, and answer it. An error becomes a problem, as in ``handle_errors``."""
    try:
        guard.admit(req, declared, changes_data=False)
        return await resource.answer(req)
    except Problem as problem:
        return refused(problem)
    except Exception as error:  # noqa: BLE001 as in Falcon, an unexpected error is logged and answered with 500
        return refused(unexpected(req, error))


async def _receive_nothing() -> dict[str, Any]:
    """Stand for the body of a request that has none."""
    return {"type": "http.request", "body": b"", "more_body": False}
