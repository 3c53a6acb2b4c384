"""The HTTP client for webhooks: it connects to checked addresses only, and follows no redirects."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import httpcore

from infra.alerts.addresses import AddressError, AddressPolicy

REQUEST_SECONDS = 10.0
"""Highest number of seconds for a request, from the resolution of the name to the status of the answer."""

CONNECT_SECONDS = 4.0
"""Highest number of seconds for a connection to one address."""

_HEADERS = (("content-type", "application/json"), ("user-agent", "TickView"))

MAX_CONNECTIONS = 256
"""Highest number of connections to all webhooks together."""


class Answer(NamedTuple):
    """The answer of a webhook to one request."""

    status: int | None
    """The HTTP status. None: there was no answer."""
    error: str = ""
    """Why there was no answer."""

    @property
    def is_accepted(self) -> bool:
        """Whether the webhook has accepted the request."""
        return self.status is not None and 200 <= self.status < 300


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to an address of the host that was checked just now. TLS still checks the certificate for the name."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 the signature of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        *addresses, last = await self._policy.resolve(host, port)
        for address in addresses:
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._backend.connect_tcp(last, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class WebhookClient:
    """Sends requests to webhooks. Used in one event loop.

    Args:
        policy: The addresses that may be called.
        request_seconds: Highest number of seconds for a request.
    """

    def __init__(self, policy: AddressPolicy, request_seconds: float = REQUEST_SECONDS) -> None:
        self._policy = policy
        self._request_seconds = request_seconds
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=0,
            network_backend=_CheckedBackend(policy),
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request. A fault of the receiver is an answer, too."""
        try:
            self._policy.check_form(url)
            async with (
                asyncio.timeout(self._request_seconds),
                self._pool.stream(
                    "POST",
                    url,
                    headers=[*_HEADERS, *headers.items()],
                    content=body,
                    extensions={"timeout": {"connect": CONNECT_SECONDS}},
                ) as response,
            ):
                # The body is not read: it may be large, and it has no meaning.
                return Answer(response.status)
        except AddressError as error:
            return Answer(None, f"the URL {error}")
        except TimeoutError:
            return Answer(None, f"no answer within {self._request_seconds:g} s")
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            return Answer(None, " ".join(f"{type(error).__name__}: {error}".split())[:200])

    async def aclose(self) -> None:
        """Close all connections."""
        await self._pool.aclose()
