"""JWTs that an identity provider has signed: only asymmetric algorithms, each key for its own alone."""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import jwt

from infra.access.jwks import Keys
from infra.access.watched_file import Watched
from readapi.http.identities import Identity, is_subject, known_scopes

LEEWAY_SECONDS = 30
"""What clocks may differ by."""

REQUIRED = ["exp", "iss", "aud", "sub"]

MOST_KNOWN = 10_000
"""Tokens whose signature is not verified again, at most."""


class _Known(NamedTuple):
    identity: Identity
    until: float


class Jwts:
    """Knows whose a JWT is."""

    def __init__(self, issuer: str, audience: str, keys: Watched[Keys]) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._known: dict[bytes, _Known] = {}
        self._known_by: Keys = {}

    def whose(self, text: str) -> Identity | None:
        """Whose token it is; None if it is not valid now."""
        keys = self._keys.content
        if keys is not self._known_by:
            self._known, self._known_by = {}, keys
        digest = sha256(text.encode()).digest()
        known = self._known.get(digest) or self._verify(text, keys)
        if known is None or known.until <= time.time():
            self._known.pop(digest, None)
            return None
        if digest not in self._known:
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[digest] = known
        return known.identity

    def _verify(self, text: str, keys: Keys) -> _Known | None:
        try:
            key = keys[jwt.get_unverified_header(text)["kid"]]
            claims = jwt.decode(
                text,
                key,
                # The token's own word for its algorithm is no choice: a key is for one alone.
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED},
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        # PyJWT also takes a text that is a number for one.
        if not is_subject(claims["sub"]) or not isinstance(claims["exp"], int | float):
            return None
        return _Known(Identity(claims["sub"], scopes_of(claims)), claims["exp"] + LEEWAY_SECONDS)


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Our scopes among those of ``scope`` (separated by spaces), else of ``scp`` (likewise, or a list)."""
    given = claims.get("scope", claims.get("scp", ""))
    names = given.split(" ") if isinstance(given, str) else given if isinstance(given, list) else ()
    return known_scopes(name for name in names if isinstance(name, str))
