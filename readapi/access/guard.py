"""The guard: middleware that identifies the client and refuses requests that the client may not send.

Without an authenticator, the service is in development mode. Every client on the same machine then has all scopes and
names its user in the header ``X-User-ID``. A web page that a browser on this machine shows must not get this access,
even if the page's site resolves its own name to this machine (DNS rebinding).
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Network
from typing import Any, NamedTuple

from falcon.asgi import Request, Response, WebSocket

from readapi.access import problems
from readapi.access.client_address import Networks, client_address
from readapi.access.origins import check_origin
from readapi.access.rate_limits import RateLimits
from readapi.http.bodies import check_media_type
from readapi.http.identities import ANONYMOUS, SCOPES, SUBJECT_RULE, Authenticator, Identity, Scope, is_subject
from readapi.http.operation import Operation, operation_of
from readapi.http.problems import invalid
from readapi.http.websocket_refusal import SUBPROTOCOL

USER_HEADER = "X-User-ID"
"""Request header with the id of the user."""

DEVELOPER = Identity("developer", frozenset(SCOPES))
"""The identity in development mode if the request names no user."""

MAX_TOKEN_LENGTH = 8_192
"""Highest number of characters of a token."""

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_LOCAL_HOST = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)

_METHODS = ("get", "post", "put", "patch", "delete", "websocket")


_CONNECTION = Operation("Receive live changes.", "read", {}, is_stream=True)
"""The declaration of a connection outside of Falcon."""


class Guard:
    """Falcon middleware for access control.

    Args:
        authenticator: Authenticates tokens. None means development mode.
        origins: The origins of the pages that may read responses and send requests that change data.
        rates: The rate limits. None means no limits.
        trusted_proxies: The addresses of the proxies whose headers name the client.
        default_user: The user in development mode if the request names none.
    """

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        origins: Iterable[str] = (),
        rates: RateLimits | None = None,
        trusted_proxies: Networks = (),
        default_user: str = DEVELOPER.subject,
    ) -> None:
        self._default_identity = Identity(default_user, DEVELOPER.scopes)
        self.authenticator = authenticator
        self.origins = frozenset(origins)
        self._rates = rates
        self._trusted_proxies = trusted_proxies

    async def process_resource(self, req: Request, _resp: Response, resource: object, _params: Any) -> None:
        """Check a request that matches a route. Raises Problem (400, 401, 403, 429)."""
        method = "get" if req.method == "HEAD" else req.method.lower()
        # A method without a responder reads and changes nothing: OPTIONS, which browsers send without a token, and 405.
        if declared := operation_of(resource, method):
            self.admit(req, declared, changes_data=method != "get")

    async def process_resource_ws(self, req: Request, _ws: WebSocket, resource: object, _params: Any) -> None:
        """Check the request of a WebSocket before it is accepted. Raises Problem (400, 401, 403, 429)."""
        if declared := operation_of(resource, "websocket"):
            self.admit(req, declared, changes_data=True)

    def admit_connection(self, req: Request) -> None:
        """Check the request that opens a connection outside of Falcon. Raises Problem (400, 401, 403, 429)."""
        check_origin(req, self.origins)
        self.admit(req, _CONNECTION, changes_data=False)

    def admit(self, req: Request, declared: Operation, *, changes_data: bool) -> None:
        """Identify the client, spend a request of its rate limit, and check its scopes.

        Args:
            req: The request.
            declared: The operation that the client requests.
            changes_data: Whether the request may change data.

        Raises:
            Problem: 400, 401, 403, 415, 417 or 429.
        """
        if changes_data:
            check_origin(req, self.origins)
        authenticator = self.authenticator
        identity = self._identify(req, declared, authenticator) if authenticator else self._local_identity(req)
        req.context.identity = identity
        if declared.scope is not None and declared.scope not in identity.scopes:
            raise problems.unauthenticated() if identity is ANONYMOUS else problems.missing_scope(declared.scope)
        if changes_data:
            _check_body_headers(req)

    def _identify(self, req: Request, declared: Operation, authenticator: Authenticator) -> Identity:
        token = token_of(req)
        identity = authenticator.identify(token) if token else None
        if self._rates:
            client = _signed_part(token) if token and identity else self._network_of(req)
            seconds = self._rates.spend(client)
            if seconds is not None:
                raise problems.too_many_requests(seconds)
        if token is None:
            return ANONYMOUS
        if identity is None:
            raise problems.invalid_token()
        if req.get_header(USER_HEADER) not in (None, identity.subject):
            raise problems.another_user()
        if declared.is_stream:
            req.context.is_admitted = lambda: authenticator.identify(token) == identity
        return identity

    def _network_of(self, req: Request) -> str:
        """Return the network of the client, or that of the proxy if the client is unknown."""
        address = client_address(req, self._trusted_proxies)
        return network_of(req.remote_addr if address is None else str(address))

    def _local_identity(self, req: Request) -> Identity:
        """Return the identity of a client in development mode. Raises Problem (400, 403)."""
        address, host = client_address(req, self._trusted_proxies), req.get_header("Host")
        if not (address and address.is_loopback and (host is None or _LOCAL_HOST.fullmatch(host))):
            raise problems.not_local()
        user = req.get_header(USER_HEADER)
        if user is None:
            return self._default_identity
        if not is_subject(user):
            raise invalid([{"field": USER_HEADER, "reason": SUBJECT_RULE}])
        return Identity(user, DEVELOPER.scopes)


def token_of(req: Request) -> str | None:
    """Return the token of a request.

    Returns:
        None if the request has no token. The empty string, which is never a valid token, if the token is malformed.
    """
    header = req.get_header("Authorization")
    if header is not None:
        match = _BEARER.fullmatch(header) if len(header) <= MAX_TOKEN_LENGTH else None
        return match[1] if match else ""
    if req.scope["type"] == "websocket":
        protocol, *tokens = req.scope.get("subprotocols") or ("",)
        if protocol == SUBPROTOCOL:
            return tokens[0] if len(tokens) == 1 and len(tokens[0]) <= MAX_TOKEN_LENGTH else ""
    return None


def _signed_part(token: str) -> str:
    """Return a JWT without its signature, or a static token unchanged.

    The same signature can be encoded in several ways. Without this step, each of them would have its own rate limit.
    """
    return token.rpartition(".")[0] or token


def network_of(address: str) -> str:
    """Return the network of a client for its rate limit: an IPv4 address, or the /64 network of an IPv6 address.

    A single client usually controls a whole /64 network.
    """
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))


def _check_body_headers(req: Request) -> None:
    """Refuse a request that changes data and has another body than JSON. Raises Problem (415, 417).

    A form of a foreign page can send other content types without asking the service first.
    """
    if req.content_type is not None:
        check_media_type(req)
    encoding = req.get_header("Content-Encoding")
    if encoding is not None and encoding.lower() != "identity":
        raise problems.encoded_body(encoding)
    expectation = req.get_header("Expect")
    if expectation is not None and expectation.lower() != "100-continue":
        raise problems.unknown_expectation(expectation)


class AccessRule(NamedTuple):
    """The scope that an operation needs, or None if the operation is open to clients without a token."""

    method: str
    path: str
    scope: Scope | None


def access_rules(routes: Mapping[str, object]) -> list[AccessRule]:
    """Return the access rules of all resources.

    Args:
        routes: The resources by path.

    Raises:
        TypeError: A responder has no declaration. The guard would not protect it.
    """
    rules = []
    for path, resource in routes.items():
        for method in _METHODS:
            if not hasattr(resource, f"on_{method}"):
                continue
            declared = operation_of(resource, method)
            if declared is None:
                raise TypeError(f"{method.upper()} {path} declares no scope: declare the responder with @operation")
            rules.append(AccessRule(method.upper(), path, declared.scope))
    return rules
