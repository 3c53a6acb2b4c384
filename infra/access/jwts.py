"""JWTs of an identity provider (RFC 7519). Only asymmetric algorithms are accepted, and each key serves one of them."""

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

import jwt

from infra.access.jwks import Keys
from infra.access.watched_file import WatchedFile
from readapi.http.identities import Identity, is_subject, known_scopes

LEEWAY_SECONDS = 30
"""Largest tolerated difference between the clocks of the identity provider and the API, in seconds."""

REQUIRED_CLAIMS = ["exp", "iss", "aud", "sub"]
"""Claims that every token must contain."""

MAX_CACHED_TOKENS = 10_000
"""Highest number of verified tokens in the cache."""


class _VerifiedToken(NamedTuple):
    identity: Identity
    expires_at: float
    """Seconds since the epoch, leeway included."""


class JwtVerifier:
    """Verifies JWTs, and caches the result until the token expires or the keys change.

    Args:
        issuer: The issuer (``iss``) that tokens must name.
        audience: The audience (``aud``) that tokens must name.
        keys: The public keys of the issuer.
    """

    def __init__(self, issuer: str, audience: str, keys: WatchedFile[Keys]) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._cache: dict[bytes, _VerifiedToken] = {}
        self._cached_for: Keys = {}

    def identify(self, text: str) -> Identity | None:
        """Return the identity of a token, or None if the token is not valid now."""
        keys = self._keys.content
        if keys is not self._cached_for:
            self._cache, self._cached_for = {}, keys
        digest = sha256(text.encode()).digest()
        token = self._cache.get(digest) or self._verify(text, keys)
        if token is None or token.expires_at <= time.time():
            self._cache.pop(digest, None)
            return None
        if digest not in self._cache:
            while len(self._cache) >= MAX_CACHED_TOKENS:
                del self._cache[next(iter(self._cache))]
            self._cache[digest] = token
        return token.identity

    def _verify(self, text: str, keys: Keys) -> _VerifiedToken | None:
        try:
            key = keys[jwt.get_unverified_header(text)["kid"]]
            claims = jwt.decode(
                text,
                key,
                # The algorithm comes from the key, never from the token.
                algorithms=[key.algorithm_name],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_SECONDS,
                options={"require": REQUIRED_CLAIMS},
            )
        except (jwt.PyJWTError, KeyError, TypeError, ValueError, OverflowError, RecursionError):
            return None
        # PyJWT also accepts a string of digits as the time of expiry.
        if not is_subject(claims["sub"]) or not isinstance(claims["exp"], int | float):
            return None
        token_id = claims.get("jti")
        identity = Identity(claims["sub"], scopes_of(claims), token_id if is_subject(token_id) else None)
        return _VerifiedToken(identity, claims["exp"] + LEEWAY_SECONDS)


def scopes_of(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return TickView's scopes among the scopes of a token.

    Args:
        claims: The claims of the token. ``scope`` separates scopes by spaces (RFC 8693, section 4.2). Without it,
            ``scp`` does the same or is a list.
    """
    scopes = claims.get("scope", claims.get("scp", ""))
    names = scopes.split(" ") if isinstance(scopes, str) else scopes if isinstance(scopes, list) else ()
    return known_scopes(name for name in names if isinstance(name, str))
