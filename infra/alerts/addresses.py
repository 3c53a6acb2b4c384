"""The addresses that requests to webhooks may reach: public addresses only, unless a setting allows others.

A name is resolved for the check of a new alert and again for each connection, and the connection goes to the address
that was checked. A name that later leads to another address (DNS rebinding) therefore gains nothing.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from domain.errors import TickViewError

MAX_URL_LENGTH = 2_048
"""Highest number of characters in the URL of a webhook."""

RESOLVE_SECONDS = 5.0
"""Highest number of seconds for the resolution of a name."""

_DEFAULT_PORTS = {"http": 80, "https": 443}

_IPV6_UNICAST = IPv6Network("2000::/3")
"""The IPv6 addresses in use on the public network. IPv4-mapped and translated addresses (NAT64) are outside."""

_resolvers = ThreadPoolExecutor(128, thread_name_prefix="resolver")
"""Threads for the resolution of names, apart from all other threads: a name server that hangs occupies only these."""


class AddressError(TickViewError):
    """The webhook must not be called, or cannot be found. The message is a clause whose subject is the URL."""


class Target(NamedTuple):
    """The server of a webhook."""

    scheme: str
    host: str
    port: int


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to one host on the public network."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv6Address) and (parsed not in _IPV6_UNICAST or parsed.sixtofour is not None):
        return False
    return parsed.is_global and not parsed.is_multicast


class AddressPolicy(NamedTuple):
    """Which addresses webhooks may have."""

    allows_private: bool = False
    """Whether ``http`` URLs and addresses that are not public are allowed."""

    def check_form(self, url: str) -> Target:
        """Check the form of a URL, without resolving its host.

        Raises:
            AddressError: The URL is not allowed.
        """
        if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
            raise AddressError(f"should have at most {MAX_URL_LENGTH:,} printable ASCII characters, without blanks")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise AddressError(f"is not a URL: {error}") from error
        self._check_parts(parts)
        return Target(parts.scheme, parts.hostname or "", port or _DEFAULT_PORTS[parts.scheme])

    def _check_parts(self, parts: SplitResult) -> None:
        schemes = ("https", "http") if self.allows_private else ("https",)
        if parts.scheme not in schemes or not parts.hostname:
            raise AddressError(f"should begin with {' or '.join(f'{scheme}://' for scheme in schemes)} and name a host")
        if parts.username is not None or parts.password is not None:
            raise AddressError("should contain no user and no password: the signature of a request identifies TickView")
        if parts.fragment:
            raise AddressError("should contain no fragment, because it is not sent")

    async def resolve(self, host: str, port: int) -> list[str]:
        """Resolve a host to the addresses that may be connected to, in order of preference.

        Raises:
            AddressError: The host has no address, or one of its addresses is not allowed.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                found = await loop.run_in_executor(_resolvers, _look_up, host, port)
        except (OSError, UnicodeError) as error:  # TimeoutError is an OSError.
            raise AddressError(f"names the host {host!r}, which cannot be resolved") from error
        if not self.allows_private and not all(map(is_public, found)):
            raise AddressError(f"names the host {host!r}, which has an address that is not public")
        return found

    async def check(self, url: str) -> None:
        """Check a URL and the addresses of its host. Raises AddressError."""
        target = self.check_form(url)
        await self.resolve(target.host, target.port)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
