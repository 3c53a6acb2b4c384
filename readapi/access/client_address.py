"""The address of a client, also behind trusted proxies.

Everybody can send a header with an address. The headers of a request therefore count only if a trusted proxy sent the
request, and only as far as trusted proxies wrote them (RFC 7239, section 8.1).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from falcon.asgi import Request

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]

FORWARDING_HEADERS = frozenset(
    b"forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip x-client-ip true-client-ip "
    b"cf-connecting-ip via".split()
)
"""Headers that show that a proxy has sent a request."""


def client_address(req: "Request", trusted: Networks) -> Address | None:
    """Return the address of the client.

    Args:
        req: The request.
        trusted: The addresses of the proxies whose headers ``Forwarded`` and ``X-Forwarded-For`` count.

    Returns:
        None if the address is unknown: the request came through a proxy that is not trusted, or its headers contradict
        each other or name no address.
    """
    client = req.scope.get("client")
    peer = parse_address(client[0]) if client else None
    if peer is None or FORWARDING_HEADERS.isdisjoint([name for name, _ in req.scope["headers"]]):
        return peer
    if not _is_in(peer, trusted):
        return None
    chains = [
        [node for element in _split(req, "Forwarded") for node in _nodes(element)],
        _split(req, "X-Forwarded-For"),
    ]
    addresses = {_first_untrusted(chain, trusted) for chain in chains if chain}
    return addresses.pop() if len(addresses) == 1 else None


def _split(req: "Request", header: str) -> list[str]:
    return [part.strip() for part in (req.get_header(header) or "").split(",") if part.strip()]


def _nodes(element: str) -> Iterable[str]:
    """Yield the client that an element of ``Forwarded`` names (RFC 7239, section 4)."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.lower() == "for":
            yield value.strip('"')


def _first_untrusted(chain: Sequence[str], trusted: Networks) -> Address | None:
    """Return the last address that is not that of a trusted proxy. Proxies append to the chain."""
    address = None
    for node in reversed(chain):
        address = parse_address(node)
        if address is None or not _is_in(address, trusted):
            break
    return address


@lru_cache(1_024)
def parse_address(node: str) -> Address | None:
    """Parse an IP address with or without brackets and a port. Return None for a name."""
    if node.startswith("["):
        node = node[1:].partition("]")[0]
    elif node.count(":") == 1:
        node = node.partition(":")[0]
    try:
        address = ip_address(node)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: Address, networks: Networks) -> bool:
    return any(address in network for network in networks)
