"""Request bodies: JSON, bounded in size."""

from http import HTTPStatus
from typing import Any

import falcon
import orjson
from falcon.asgi import Request

from readapi.problems import Problem, invalid


async def read_json(req: Request, most_bytes: int) -> Any:
    """The body. Raises Problem (400, 413, 415)."""
    media_type = (req.content_type or "").partition(";")[0].strip().lower()
    if media_type != falcon.MEDIA_JSON:
        detail = f"the body must be {falcon.MEDIA_JSON}, not {media_type or 'of an unnamed type'}"
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail, headers={"Accept": falcon.MEDIA_JSON}
        )
    body = bytearray()
    if (req.content_length or 0) > most_bytes:
        raise too_large(f"the body has {req.content_length} bytes, more than the {most_bytes} allowed")
    async for chunk in req.stream:
        body += chunk
        if len(body) > most_bytes:
            raise too_large(f"the body has more than the {most_bytes} bytes allowed")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid([{"field": "body", "reason": f"is not JSON: {error}"}]) from None


def too_large(detail: str) -> Problem:
    """413."""
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large", detail)
