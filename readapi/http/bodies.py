"""Request bodies: JSON, bounded in size."""

from http import HTTPStatus
from typing import Any, TypeVar

import falcon
import orjson
from falcon.asgi import Request
from pydantic import ValidationError

from readapi.http.parameters import Parameters, field_errors
from readapi.http.problems import Problem, invalid

Options = TypeVar("Options", bound=Parameters)


async def read_json(req: Request, most_bytes: int) -> Any:
    """The body. Raises Problem (400, 413, 415)."""
    _check_media_type(req)
    return _parse(await _read(req, most_bytes))


async def read_options(req: Request, options: type[Options], most_bytes: int) -> Options:
    """The body, all of whose members may be left out; no body is an empty one. Raises Problem (400, 413, 415)."""
    body = await _read(req, most_bytes)
    if not body:
        return options()
    _check_media_type(req)
    return _validated(options, _parse(body))


async def read_body(req: Request, model: type[Options], most_bytes: int) -> Options:
    """The body as ``model`` has it. Raises Problem (400, 413, 415)."""
    return _validated(model, await read_json(req, most_bytes))


def _validated(model: type[Options], content: Any) -> Options:
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        raise invalid(field_errors(model, error, "body")) from error


def json_integer(value: object) -> object:
    """``5.0`` is an integer in JSON."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _check_media_type(req: Request) -> None:
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_JSON:
        detail = f"the body must be {falcon.MEDIA_JSON}, not {media_type or 'of an unnamed type'}"
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, headers={"Accept": falcon.MEDIA_JSON}
        )


async def _read(req: Request, most_bytes: int) -> bytearray:
    body = bytearray()
    if (req.content_length or 0) > most_bytes:
        raise too_large(f"the body has {req.content_length} bytes, more than the {most_bytes} allowed")
    async for chunk in req.stream:
        body += chunk
        if len(body) > most_bytes:
            raise too_large(f"the body has more than the {most_bytes} bytes allowed")
    return body


def _parse(body: bytearray) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid([{"field": "body", "reason": f"is not JSON: {error}"}]) from None


def too_large(detail: str) -> Problem:
    """413."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
