"""Request bodies: reading JSON up to a highest size, and validating it."""

from http import HTTPStatus
from typing import Any, TypeVar

import falcon
import orjson
from falcon.asgi import Request
from pydantic import ValidationError

from readapi.http.parameters import Parameters, field_errors
from readapi.http.problems import Problem, invalid

Body = TypeVar("Body", bound=Parameters)


async def read_json(req: Request, max_bytes: int) -> Any:
    """Read the body as JSON. Raises Problem (400, 413, 415)."""
    check_media_type(req)
    return _parse(await _read(req, max_bytes))


async def read_body(req: Request, model: type[Body], max_bytes: int) -> Body:
    """Read the body and validate it with ``model``. Raises Problem (400, 413, 415).

    Middleware can set ``req.context.convert_body``, a function that converts the JSON before the validation.
    """
    content = await read_json(req, max_bytes)
    convert = getattr(req.context, "convert_body", None)
    return _validate(model, convert(content) if convert else content)


async def read_optional_body(req: Request, model: type[Body], max_bytes: int) -> Body:
    """Read a body that may be missing, which means the defaults of ``model``. Raises Problem (400, 413, 415)."""
    body = await _read(req, max_bytes)
    if not body:
        return model()
    check_media_type(req)
    return _validate(model, _parse(body))


def json_integer(value: object) -> object:
    """Convert a ``float`` without a fraction to ``int``: in JSON, ``5.0`` is an integer. For use as a validator."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _validate(model: type[Body], content: Any) -> Body:
    try:
        return model.model_validate(content, strict=True)
    except ValidationError as error:
        raise invalid(field_errors(model, error, "body")) from error


def check_media_type(req: Request) -> None:
    """Refuse a body that is not JSON. Raises Problem (415)."""
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_JSON:
        actual = f"it is {media_type}" if media_type else "there is none"
        detail = f"the Content-Type of the body must be {falcon.MEDIA_JSON}, and {actual}"
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, headers={"Accept": falcon.MEDIA_JSON}
        )


async def _read(req: Request, max_bytes: int) -> bytearray:
    body = bytearray()
    if (req.content_length or 0) > max_bytes:
        raise _too_large(f"the body has {req.content_length:,} bytes, and at most {max_bytes:,} bytes are allowed")
    async for chunk in req.stream:
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(f"the body has more than the {max_bytes:,} bytes that are allowed")
    return body


def _parse(body: bytearray) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid([{"field": "body", "reason": f"is not JSON: {error}"}]) from None


def _too_large(detail: str) -> Problem:
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
