"""The guard: middleware that finds out who asks and refuses what they may not, before anything else is done.

Without an authenticator the service is in development: everybody on this machine may do everything, and says with
``X-User-ID`` who they are. A page that a browser shows there must not get that far, whatever name it gives the machine.
"""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple

from falcon.asgi import Request, Response, WebSocket

from readapi.access import problems
from readapi.access.origins import check_origin
from readapi.access.rate_limits import RateLimits
from readapi.http.identities import ANONYMOUS, SCOPES, SUBJECT_RULE, Authenticator, Identity, Scope, is_subject
from readapi.http.operation import Operation, operation_of
from readapi.http.problems import invalid

USER_HEADER = "X-User-ID"

DEVELOPER = Identity("developer", frozenset(SCOPES))

SUBPROTOCOL = "bearer"
"""Browsers cannot give a WebSocket a header; they offer this protocol and, behind it, the token."""

LONGEST_TOKEN = 8_192

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_LOCAL_HOST = re.compile(r"(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?", re.IGNORECASE)

_METHODS = ("get", "post", "put", "patch", "delete", "websocket")


class Guard:
    """``origins`` are those of pages that may read answers and ask for changes; no ``rates``, no limit."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        origins: Iterable[str] = (),
        rates: RateLimits | None = None,
    ) -> None:
        self.authenticator = authenticator
        self.origins = frozenset(origins)
        self._rates = rates

    async def process_resource(self, req: Request, _resp: Response, resource: object, _params: Any) -> None:
        """Of a request that a route takes. Raises Problem (400, 401, 403, 429)."""
        method = "get" if req.method == "HEAD" else req.method.lower()
        # Without a responder nothing will happen: OPTIONS, which browsers ask without a token, and 405.
        if declared := operation_of(resource, method):
            self._admit(req, declared, changes=method != "get")

    async def process_resource_ws(self, req: Request, _ws: WebSocket, resource: object, _params: Any) -> None:
        """Of a WebSocket that has not been accepted yet. Raises Problem (400, 401, 403, 429)."""
        if declared := operation_of(resource, "websocket"):
            self._admit(req, declared, changes=True)

    def _admit(self, req: Request, declared: Operation, *, changes: bool) -> None:
        if changes:
            check_origin(req, self.origins)
        known = self.authenticator
        req.context.identity = identity = self._identify(req, declared, known) if known else _developer(req)
        if declared.scope is not None and declared.scope not in identity.scopes:
            raise problems.unauthenticated() if identity is ANONYMOUS else problems.missing_scope(declared.scope)

    def _identify(self, req: Request, declared: Operation, authenticator: Authenticator) -> Identity:
        token = token_of(req)
        identity = authenticator.identify(token) if token else None
        if self._rates:
            seconds = self._rates.spend(_signed(token) if token and identity else network_of(req.remote_addr))
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


def token_of(req: Request) -> str | None:
    """The token that came with a request: ``""``, which is never valid, for one that cannot be read; None for none."""
    header = req.get_header("Authorization")
    if header is not None:
        found = _BEARER.fullmatch(header) if len(header) <= LONGEST_TOKEN else None
        return found[1] if found else ""
    if req.scope["type"] == "websocket":
        protocol, *tokens = req.scope.get("subprotocols") or ("",)
        if protocol == SUBPROTOCOL:
            return tokens[0] if len(tokens) == 1 and len(tokens[0]) <= LONGEST_TOKEN else ""
    return None


def _signed(token: str) -> str:
    """What a JWT's signature is for: the signature itself can be written in many ways. A static token as it is."""
    return token.rpartition(".")[0] or token


def network_of(address: str) -> str:
    """Whom an address counts for: of IPv6, each has so many that 64 bits of it are theirs."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))


def _developer(req: Request) -> Identity:
    """Whoever sits at this machine. Raises Problem (400, 403)."""
    client, host = req.scope.get("client"), req.get_header("Host")
    if not (client and is_loopback(client[0]) and (host is None or _LOCAL_HOST.fullmatch(host))):
        raise problems.not_local()
    user = req.get_header(USER_HEADER)
    if user is None:
        return DEVELOPER
    if not is_subject(user):
        raise invalid([{"field": USER_HEADER, "reason": SUBJECT_RULE}])
    return Identity(user, DEVELOPER.scopes)


def is_loopback(address: str) -> bool:
    """Whether an IP address can only be that of this machine."""
    if address == "127.0.0.1":
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


class AccessRule(NamedTuple):
    """What a token must have for an operation; None where nobody need show one."""

    method: str
    path: str
    scope: Scope | None


def access_rules(routes: Mapping[str, object]) -> list[AccessRule]:
    """Who may do what, for all resources by path.

    Raises TypeError for a responder without a declaration: what is not declared is not guarded.
    """
    rules = []
    for path, resource in routes.items():
        for method in _METHODS:
            if not hasattr(resource, f"on_{method}"):
                continue
            declared = operation_of(resource, method)
            if declared is None:
                raise TypeError(f"nobody has said who may ask {method.upper()} {path}: declare it with @operation")
            rules.append(AccessRule(method.upper(), path, declared.scope))
    return rules
