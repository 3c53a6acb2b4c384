"""``/openapi.json``: the OpenAPI 3.1 document, made from what the operations declare and the server obeys."""

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Literal

import falcon
import orjson
from falcon.asgi import Request, Response
from pydantic import TypeAdapter

from readapi.http.client_stream import LONGEST_ID
from readapi.http.operation import Operation, Resource, operation, operation_of
from readapi.http.parameters import Parameters, optional_schema
from readapi.http.problems import MEDIA_TYPE, ProblemDocument
from readapi.http.read_model import MIN_POSITION_HEADER, POSITION_HEADER, POSITIONS_PATTERN

API_VERSION = "1.0"
"""Its first number is raised when a client must change."""

METHODS = ("get", "post", "put", "delete")
_BEARER = "bearer"
_SCHEMES = {_BEARER: {"type": "http", "scheme": "bearer", "description": "A token of the service, or a JWT."}}

REF = "#/components/schemas/{model}"

Place = tuple[str, str, Operation]
"""Path, method, and what is declared for them."""

_ABOUT = """Event-sourced read models of stock-chart patterns and backtests.

Lists are given as repeated parameters, comma-separated, or both. Numbers in `TickView-Position` are positions in the
event log: an answer is at least as new as they say, and a read with `TickView-Min-Position` waits until it is."""

_POSITION = {
    "schema": {"type": "string"},
    "description": "One position per log: `market-0=12,market-1=7`. Of a read: the answer knows at least these. "
    "Of a write: what was recorded stands up to here.",
}
_READ_HEADERS = {
    POSITION_HEADER: _POSITION,
    "ETag": {"schema": {"type": "string"}, "description": "Changes with the content of the answer."},
}
_MIN_POSITION = {
    "name": MIN_POSITION_HEADER,
    "in": "header",
    "schema": {"type": "string", "pattern": POSITIONS_PATTERN},
    "example": "market-0=0",
    "description": f"Wait until the read model knows these positions: a write's `{POSITION_HEADER}`.",
}
_READ_PARAMETERS = [
    _MIN_POSITION,
    {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"type": "string"},
        "description": "The `ETag` of an earlier answer: 304 if it is still the same.",
    },
]
_LIVE_PARAMETERS = [
    {**_MIN_POSITION, "description": f"Wait until one's own lists are known up to a write's `{POSITION_HEADER}`."},
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string", "maxLength": LONGEST_ID},
        "description": "As `last_event_id`, over which it prevails; an `EventSource` that reconnects sends it.",
    },
]
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The `ETag` of what is to be changed, as it is known: 412 if it has changed meanwhile.",
}
_PROBLEMS = {
    400: "A parameter, header or body that is wrong; `errors` names each and says why.",
    401: "No token, or one that is not valid here and now.",
    403: "The token lacks the scope that `scope` names, or `X-User-ID` or a page's origin is not that of who may ask.",
    404: "There is no such thing.",
    408: "The request did not arrive in time.",
    409: "It cannot be done as things stand.",
    412: "It is not as `If-Match` says; `ETag` tells how it is.",
    413: "The body, or a message in it, is too large.",
    415: "The body is not declared as JSON.",
    422: "It cannot be like this; `errors` names what is wrong and says why.",
    429: "More requests than the limit allows: try again after `Retry-After`.",
    431: "Request line and headers are larger than the server takes.",
    500: "A fault of the service; its log says more.",
    503: "Redis or the archive cannot be reached, or the intake is full: try again after `Retry-After`. Or the service "
    "has no archive.",
    504: f"The read model did not reach `{MIN_POSITION_HEADER}` in time.",
}
_OF_ANY_REQUEST = (400, 408, 431, 500)


def document(routes: Mapping[str, object], *, guarded: bool) -> dict[str, Any]:
    """The document of these resources by path; ``guarded`` where a token is needed."""
    places = list(_places({**routes, "/openapi.json": DocumentResource({})}))
    schemas, components = _schemas(places)
    paths: dict[str, dict[str, Any]] = {}
    for path, method, declared in places:
        paths.setdefault(path, {})[method] = _operation(path, method, declared, schemas)
        if guarded:
            paths[path][method] |= _access(declared, paths[path][method]["responses"], schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "TickView", "version": API_VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": components, **({"securitySchemes": _SCHEMES} if guarded else {})},
    }


def _places(routes: Mapping[str, object]) -> Iterator[Place]:
    for path, resource in routes.items():
        for method in METHODS:
            if declared := operation_of(resource, method):
                yield re.sub(r"\{(\w+):\w+\}", r"{\1}", path), method, declared


def _schemas(places: list[Place]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The schemas of all answers and bodies by the ``id`` of the type, and those they refer to."""
    types: dict[tuple[int, Literal["validation", "serialization"]], Any] = {
        (id(ProblemDocument), "serialization"): ProblemDocument
    }
    for _, _, declared in places:
        types |= {
            (id(answer), "serialization"): answer
            for answer in declared.responses.values()
            if answer is not None and not isinstance(answer, str)
        }
        if declared.body is not None:
            types[id(declared.body), "validation"] = declared.body
    inputs = [(key, mode, TypeAdapter(answer)) for (key, mode), answer in types.items()]
    found, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return {key: schema for (key, _), schema in found.items()}, definitions.get("$defs", {})


def _operation(path: str, method: str, declared: Operation, schemas: Mapping[int, Any]) -> dict[str, Any]:
    words = [word for word in re.split(r"[/{}\-_.]+", path) if word not in ("", "api")]
    described: dict[str, Any] = {
        "operationId": method + "".join(map(str.capitalize, words)),
        "summary": declared.summary,
        "parameters": [*_parameters(declared)],
        "responses": {str(status): response for status, response in sorted(_responses(declared, schemas).items())},
    }
    if declared.body is not None:
        content = {falcon.MEDIA_JSON: {"schema": schemas[id(declared.body)]}}
        described["requestBody"] = {"required": declared.body_required, "content": content}
    return described


def _access(declared: Operation, responses: dict[str, Any], schemas: Mapping[int, Any]) -> dict[str, Any]:
    """Who may ask, and what is answered to others."""
    bearer: dict[str, list[str]] = {_BEARER: [declared.scope] if declared.scope else []}
    problem = {MEDIA_TYPE: {"schema": schemas[id(ProblemDocument)]}}
    refusals = (401, 403, 429) if declared.scope else (401, 429)
    refused = {str(status): {"description": _PROBLEMS[status], "content": problem} for status in refusals}
    return {
        "security": [bearer] if declared.scope else [{}, bearer],
        "responses": dict(sorted({**responses, **refused}.items())),
    }


def _parameters(declared: Operation) -> Iterator[dict[str, Any]]:
    for name, about in declared.path.items():
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "description": about,
        }
    for name, schema in declared.query.model_json_schema().get("properties", {}).items():
        schema = optional_schema(schema)
        about = schema.pop("description", "")
        parameter = {"name": name, "in": "query", "schema": schema, "description": about}
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": schema.get("format") != "ascending"}
        yield parameter
    if declared.reads:
        yield from _READ_PARAMETERS
    if declared.is_stream:
        yield from _LIVE_PARAMETERS
    if declared.uses_if_match:
        yield _IF_MATCH


def _responses(declared: Operation, schemas: Mapping[int, Any]) -> dict[int, dict[str, Any]]:
    responses: dict[int, dict[str, Any]] = {}
    for status, answer in declared.responses.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(answer, str):
            response["content"] = {answer: {"schema": {"type": "string"}}}
        elif answer is not None:
            media_type = MEDIA_TYPE if status == HTTPStatus.UNPROCESSABLE_ENTITY else falcon.MEDIA_JSON
            response["content"] = {media_type: {"schema": schemas[id(answer)]}}
        if declared.reads:
            response["headers"] = _READ_HEADERS
        elif declared.writes and status < 400:
            own = {
                name: {"schema": {"type": "string"}, "description": about} for name, about in declared.headers.items()
            }
            response["headers"] = {POSITION_HEADER: _POSITION, **own}
        responses[status] = response
    if declared.reads:
        responses[304] = {"description": "The answer is that of `If-None-Match`.", "headers": _READ_HEADERS}
    problem = {MEDIA_TYPE: {"schema": schemas[id(ProblemDocument)]}}
    for status in (*_OF_ANY_REQUEST, *declared.problems, *((503, 504) if declared.reads else ())):
        responses[status] = {"description": _PROBLEMS[status], "content": problem}
    if 503 in responses and 503 not in declared.responses:
        responses[503]["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return responses


class DocumentResource(Resource):
    """The document itself."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        # Docstrings are written for Sphinx, descriptions are read as Markdown.
        self._document = orjson.dumps(described).replace(b"``", b"`")

    @operation("This document", scope="read", responses={200: dict[str, Any]})
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """The OpenAPI 3.1 document; its paths are below where the application is mounted."""
        resp.content_type = falcon.MEDIA_JSON
        resp.data = b'{"servers":%b,%b' % (orjson.dumps([{"url": req.root_path or "/"}]), self._document[1:])
