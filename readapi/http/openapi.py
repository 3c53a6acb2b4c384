"""``/openapi.json``: the OpenAPI 3.1 document, made from the declarations of the operations."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from http import HTTPStatus
from typing import Any, Literal, NamedTuple

import falcon
import orjson
from falcon.asgi import Request, Response
from pydantic import TypeAdapter

from readapi.http.client_stream import MAX_EVENT_ID_LENGTH
from readapi.http.examples import example_of
from readapi.http.operation import Operation, Resource, operation, operation_of
from readapi.http.parameters import Parameters, optional_schema
from readapi.http.problems import MEDIA_TYPE, ProblemDocument
from readapi.http.read_model import MIN_POSITION_HEADER, POSITION_HEADER, POSITIONS_PATTERN

API_VERSION = "1.0"
"""Version of the API. A change that breaks clients increments the first number."""

METHODS = ("get", "post", "put", "delete")
"""HTTP methods that the document describes."""

REF = "#/components/schemas/{model}"
"""Template of references to schemas."""

_BEARER = "bearer"
_SCHEMES = {_BEARER: {"type": "http", "scheme": "bearer", "description": "A static token of the service, or a JWT."}}


class Section(NamedTuple):
    """A part of the API. Its name is the tag of its operations."""

    name: str
    description: str
    routes: Mapping[str, object]
    """The resources by path."""


class DeclaredOperation(NamedTuple):
    """An operation of a resource."""

    section: str
    path: str
    method: str
    declared: Operation


_DESCRIPTION = """Event-sourced read models of stock-chart patterns and backtests.

Send a list as repeated parameters, comma-separated, or both. The header `TickView-Position` contains positions in the
event log: a response knows at least the events up to these positions. A read with the header `TickView-Min-Position`
waits until the read model has reached the given positions."""

_POSITION = {
    "schema": {"type": "string"},
    "description": "One position per log, such as `market-0=12,market-1=7`. In the response to a read: the response "
    "knows at least the events up to these positions. In the response to a write: the highest positions at which "
    "events were recorded.",
}
_READ_HEADERS = {
    POSITION_HEADER: _POSITION,
    "ETag": {"schema": {"type": "string"}, "description": "Entity tag. It changes with the content of the response."},
}
_MIN_POSITION = {
    "name": MIN_POSITION_HEADER,
    "in": "header",
    "schema": {"type": "string", "pattern": POSITIONS_PATTERN},
    "example": "market-0=0",
    "description": "Wait until the read model has reached these positions. Send the value of the header "
    f"`{POSITION_HEADER}` of a write.",
}
_READ_PARAMETERS = [
    _MIN_POSITION,
    {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"type": "string"},
        "description": "The `ETag` of an earlier response. The status is 304 if the content has not changed.",
    },
]
_STREAM_PARAMETERS = [
    {
        **_MIN_POSITION,
        "description": "Wait until the watchlists and presets of the user are known up to these positions. Send the "
        f"value of the header `{POSITION_HEADER}` of a write.",
    },
    {
        "name": "Last-Event-ID",
        "in": "header",
        "schema": {"type": "string", "maxLength": MAX_EVENT_ID_LENGTH},
        "description": "The id of the last received event. An `EventSource` sends this header when it reconnects. The "
        "header overrides the parameter `last_event_id`.",
    },
]
_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "schema": {"type": "string"},
    "description": "The `ETag` of the version to change. The status is 412 if the list has another version.",
}
_PROBLEMS = {
    400: "A parameter, a header or the body is wrong. `errors` names each wrong field and the reason.",
    401: "The request has no token, or the token is not valid.",
    403: "The token lacks the scope that `scope` names, `X-User-ID` names another user, or the origin of the page is "
    "not allowed.",
    404: "The resource does not exist.",
    406: "The service cannot write the requested media type.",
    408: "The request did not arrive in time.",
    409: "The request conflicts with the present state.",
    412: "The version differs from `If-Match`. `ETag` is the present version.",
    413: "The body, or a message in the body, is too large.",
    415: "The `Content-Type` of the body is not JSON, or the body is compressed.",
    417: "The header `Expect` is not `100-continue`.",
    422: "The content is not allowed. `errors` or `refused` names each fault and the reason.",
    429: "The client exceeded the rate limit. Try again after `Retry-After`.",
    431: "The request line and the headers are too large.",
    500: "The service failed. The log of the service has the reason.",
    503: "Redis or the archive is unavailable, or the intake is full: try again after `Retry-After`. Or the service "
    "has no archive.",
    504: f"The read model did not reach `{MIN_POSITION_HEADER}` in time.",
}
_PROBLEMS_OF_EVERY_OPERATION = (400, 408, 431, 500)


def document(sections: Sequence[Section], *, guarded: bool) -> dict[str, Any]:
    """Make the OpenAPI document.

    Args:
        sections: The parts of the API.
        guarded: Whether clients need a token.
    """
    operations = [each for section in sections for each in _declared_operations(section)]
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for section, path, method, declared in operations:
        described = {"tags": [section], **_operation(path, method, declared, schemas)}
        _add_examples(described, declared, components)
        if guarded:
            described |= _access(declared, described["responses"], schemas)
        paths.setdefault(path, {})[method] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": "TickView", "version": API_VERSION, "description": _DESCRIPTION},
        "tags": [{"name": section.name, "description": section.description} for section in sections],
        "paths": paths,
        "components": {"schemas": components, **({"securitySchemes": _SCHEMES} if guarded else {})},
    }


def _declared_operations(section: Section) -> Iterator[DeclaredOperation]:
    for path, resource in section.routes.items():
        for method in METHODS:
            if declared := operation_of(resource, method):
                template = re.sub(r"\{(\w+):\w+\}", r"{\1}", path)
                yield DeclaredOperation(section.name, template, method, declared)


def _add_examples(described: dict[str, Any], declared: Operation, components: Mapping[str, Any]) -> None:
    """Add an example to the body of an operation, and to each answer that is no problem."""
    if declared.body is not None:
        body = described["requestBody"]["content"][falcon.MEDIA_JSON]
        body["example"] = example_of(body["schema"], components)
    for status, response in described["responses"].items():
        if status < "300" and "content" in response:
            answer = next(iter(response["content"].values()))
            is_declared = declared.example is not None
            answer["example"] = declared.example if is_declared else example_of(answer["schema"], components)


def _schemas(operations: Sequence[DeclaredOperation]) -> tuple[dict[int, Any], dict[str, Any]]:
    """Return the schemas of all bodies by the ``id`` of their type, and the schemas to which these refer."""
    types: dict[tuple[int, Literal["validation", "serialization"]], Any] = {
        (id(ProblemDocument), "serialization"): ProblemDocument
    }
    for declared in (each.declared for each in operations):
        types |= {
            (id(body), "serialization"): body
            for body in declared.responses.values()
            if body is not None and not isinstance(body, str)
        }
        if declared.body is not None:
            types[id(declared.body), "validation"] = declared.body
    inputs = [(key, mode, TypeAdapter(body)) for (key, mode), body in types.items()]
    schemas, definitions = TypeAdapter.json_schemas(inputs, ref_template=REF)
    return {key: schema for (key, _), schema in schemas.items()}, definitions.get("$defs", {})


def _operation(path: str, method: str, declared: Operation, schemas: Mapping[int, Any]) -> dict[str, Any]:
    words = [word for word in re.split(r"[/{}\-_.]+", path) if word not in ("", "api")]
    described: dict[str, Any] = {
        "operationId": method + "".join(map(str.capitalize, words)),
        "summary": declared.summary,
        "parameters": [*_parameters(declared)],
        "responses": {
            str(status): response for status, response in sorted(_responses(method, declared, schemas).items())
        },
    }
    if declared.body is not None:
        content = {falcon.MEDIA_JSON: {"schema": schemas[id(declared.body)]}}
        described["requestBody"] = {"required": declared.body_required, "content": content}
    return described


def _access(declared: Operation, responses: dict[str, Any], schemas: Mapping[int, Any]) -> dict[str, Any]:
    """Describe the required scope and the problems of access control."""
    bearer: dict[str, list[str]] = {_BEARER: [declared.scope] if declared.scope else []}
    content = {MEDIA_TYPE: {"schema": schemas[id(ProblemDocument)]}}
    statuses = (401, 403, 429) if declared.scope else (401, 429)
    problems = {str(status): {"description": _PROBLEMS[status], "content": content} for status in statuses}
    return {
        "security": [bearer] if declared.scope else [{}, bearer],
        "responses": dict(sorted({**responses, **problems}.items())),
    }


def _parameters(declared: Operation) -> Iterator[dict[str, Any]]:
    for name, description in declared.path.items():
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
            "description": description,
        }
    for name, schema in declared.query.model_json_schema().get("properties", {}).items():
        schema = optional_schema(schema)
        description = schema.pop("description", "")
        parameter = {"name": name, "in": "query", "schema": schema, "description": description}
        if schema.get("type") == "array":
            parameter |= {"style": "form", "explode": schema.get("format") != "ascending"}
        yield parameter
    if declared.reads:
        yield from _READ_PARAMETERS
    if declared.is_stream:
        yield from _STREAM_PARAMETERS
    if declared.uses_if_match:
        yield _IF_MATCH


def _responses(method: str, declared: Operation, schemas: Mapping[int, Any]) -> dict[int, dict[str, Any]]:
    responses = {status: _response(declared, status, body, schemas) for status, body in declared.responses.items()}
    if declared.reads:
        responses[304] = {
            "description": "The content has not changed since the response with the `ETag` in `If-None-Match`.",
            "headers": _READ_HEADERS,
        }
    problem = {MEDIA_TYPE: {"schema": schemas[id(ProblemDocument)]}}
    statuses = {*_PROBLEMS_OF_EVERY_OPERATION, *declared.problems}
    if declared.reads:
        statuses |= {503, 504}
    if method != "get":
        statuses |= {415, 417}
    for status in statuses:
        responses[status] = {"description": _PROBLEMS[status], "content": problem}
    if 503 in responses and 503 not in declared.responses:
        retry_after = {"schema": {"type": "integer"}, "description": "Seconds to wait before the next attempt."}
        responses[503]["headers"] = {"Retry-After": retry_after}
    return responses


def _response(declared: Operation, status: int, body: Any, schemas: Mapping[int, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(body, str):
        response["content"] = {body: {"schema": {"type": "string"}}}
    elif body is not None:
        media_type = MEDIA_TYPE if status == HTTPStatus.UNPROCESSABLE_ENTITY else falcon.MEDIA_JSON
        response["content"] = {media_type: {"schema": schemas[id(body)]}}
    if status == HTTPStatus.OK:
        response.setdefault("content", {}).update(
            {download: {"schema": {"type": "string"}} for download in declared.downloads}
        )
    if declared.reads:
        response["headers"] = _READ_HEADERS
    elif declared.writes and status < 400:
        further = {
            name: {"schema": {"type": "string"}, "description": description}
            for name, description in declared.headers.items()
        }
        response["headers"] = {POSITION_HEADER: _POSITION, **further}
    return response


class DocumentResource(Resource):
    """The OpenAPI document. The first request makes it, because most processes are never asked for it."""

    def __init__(self) -> None:
        self._make: Callable[[], dict[str, Any]] = dict

    def describe(self, sections: Sequence[Section], *, guarded: bool) -> None:
        """Set the parts of the API to describe. This resource belongs to one of them."""
        self._make = lambda: document(sections, guarded=guarded)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document."""
        return self._make()

    @cached_property
    def _encoded(self) -> bytes:
        # Docstrings mark code with two backticks as Sphinx does. OpenAPI descriptions are Markdown.
        return orjson.dumps(self.document).replace(b"``", b"`")

    @operation(
        "Show the OpenAPI document.", scope="read", responses={200: dict[str, Any]}, example={"openapi": "3.1.0"}
    )
    async def on_get(self, req: Request, resp: Response, _query: Parameters) -> None:
        """Send the OpenAPI 3.1 document. Its server URL is the prefix under which the application is mounted."""
        resp.content_type = falcon.MEDIA_JSON
        # In a thread, because the document takes longer to make than other requests should wait.
        encoded = await asyncio.to_thread(lambda: self._encoded)
        resp.data = b'{"servers":%b,%b' % (orjson.dumps([{"url": req.root_path or "/"}]), encoded[1:])
