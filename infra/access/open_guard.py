"""The guard of the API: created from the settings, with an authenticator for static tokens and JWTs."""

from typing import TYPE_CHECKING

from infra.access.tokens import PREFIX, identify_token, parse_tokens
from infra.access.watched_file import WatchedFile
from infra.settings import Settings
from readapi.access.guard import DEVELOPER, Guard
from readapi.access.rate_limits import RateLimits
from readapi.http.identities import Identity

if TYPE_CHECKING:
    from infra.access.jwts import JwtVerifier


DEFAULT_USERS = {"tickstock": "default_user"}
"""Platform -> the user of a request that names none, without authentication."""


class TokenAuthenticator:
    """The authenticator for static tokens, JWTs, or both.

    Raises:
        StartupError: The file of the tokens or of the keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        file = settings.tokens_file
        self._tokens = WatchedFile("TICKVIEW_TOKENS_FILE", file, parse_tokens) if file else None
        self._jwts = _open_jwt_verifier(settings)

    def identify(self, token: str) -> Identity | None:
        """Return the identity of a token, or None if the token is not valid now."""
        if self._tokens and token.startswith(f"{PREFIX}_"):
            return identify_token(token, self._tokens.content)
        return self._jwts.identify(token) if self._jwts else None


def _open_jwt_verifier(settings: Settings) -> "JwtVerifier | None":
    if not (settings.jwt_issuer and settings.jwt_audience and settings.jwt_jwks_file):
        return None
    # Imported on demand: these modules and their cryptography take ten megabytes in each process.
    from infra.access.jwks import JwksReader
    from infra.access.jwts import JwtVerifier

    keys = WatchedFile("TICKVIEW_JWT_JWKS_FILE", settings.jwt_jwks_file, JwksReader().read)
    return JwtVerifier(settings.jwt_issuer, settings.jwt_audience, keys)


def open_guard(settings: Settings) -> Guard:
    """Create the guard of the API from the settings.

    Raises:
        StartupError: The file of the tokens or of the keys cannot be read.
    """
    if not settings.authenticates:
        user = DEFAULT_USERS.get(settings.compatibility or "", DEVELOPER.subject)
        return Guard(origins=settings.cors_origins, trusted_proxies=settings.trusted_proxies, default_user=user)
    rates = RateLimits(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
    return Guard(TokenAuthenticator(settings), settings.cors_origins, rates, settings.trusted_proxies)
