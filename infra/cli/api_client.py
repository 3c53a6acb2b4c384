"""Requests of commands to the API. Whatever answers on its port, a failure is one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import orjson

from infra.cli.errors import CommandError
from infra.settings import Settings

CHUNK_BYTES = 65_536
"""Highest number of bytes of a body that one call reads."""


def authorization(settings: Settings) -> dict[str, str]:
    """Return the header with the configured token, or no header."""
    return {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}


class ApiAnswer:
    """An answer of the API, whose body is read by ``json`` or by ``chunks``.

    Args:
        base: The URL of the API, for errors.
        response: The response.
    """

    def __init__(self, base: str, response: HTTPResponse | HTTPError) -> None:
        self._base = base
        self._response = response
        self.status = response.status or 0
        self.tag = response.headers["ETag"]

    def json(self, *members: str) -> dict[str, Any]:
        """Read a JSON object with these members. Raises CommandError if the body is anything else."""
        body = b"".join(self.chunks())
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError:
            content = None
        if not isinstance(content, dict) or not content.keys() >= set(members):
            raise self._error(f"answers with status {self.status} and is not the API of TickView")
        return content

    def chunks(self, media_type: str | None = None) -> Iterator[bytes]:
        """Yield the parts of the body as they arrive.

        Raises:
            CommandError: The body has another media type than ``media_type``, or its end is missing.
        """
        if media_type and self._response.headers.get_content_type() != media_type:
            raise self._error(f"does not answer with {media_type} and is not the API of TickView")
        left = self._response.length
        with _failures(self._base):
            while chunk := self._response.read(CHUNK_BYTES):
                left = None if left is None else left - len(chunk)
                yield chunk
        if left:
            raise self._error("ended its answer too early")

    def _error(self, fault: str) -> CommandError:
        return CommandError(f"The server at {self._base} {fault}. Check TICKVIEW_HOST and TICKVIEW_PORT.")


@contextmanager
def open_answer(
    base: str, target: str, headers: Mapping[str, str], *, body: bytes | None = None, timeout: float
) -> Iterator[ApiAnswer]:
    """Send a request and open its answer, also one with an error status, until the context ends.

    Args:
        base: The URL of the API.
        target: The path and the query string.
        headers: The headers of the request.
        body: The body of a POST request. None for a GET request.
        timeout: Seconds to wait for the connection, and for each part of the answer.

    Raises:
        CommandError: The API cannot be reached, or its answer is not HTTP.
    """
    with _failures(base):
        try:
            request = Request(base + target, body, dict(headers))  # noqa: S310 the URL comes from the settings
            response = urlopen(request, timeout=timeout)  # noqa: S310 see above
        except HTTPError as error:
            response = error
    with response:
        yield ApiAnswer(base, response)


@contextmanager
def _failures(base: str) -> Iterator[None]:
    """Turn failures of the connection and of the protocol into CommandError."""
    try:
        yield
    except URLError as error:
        raise CommandError(
            f"The API at {base} cannot be reached: {error.reason}. Start `tickview up` or `tickview serve`, or set "
            "TICKVIEW_HOST and TICKVIEW_PORT."
        ) from error
    except TimeoutError as error:
        raise CommandError(f"The API at {base} did not answer in time. Check it with `tickview status`.") from error
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CommandError(f"The API at {base} did not answer completely: {reason}.") from error
