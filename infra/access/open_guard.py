"""Makes the guard of the API from the settings."""

from typing import TYPE_CHECKING

from infra.access.tokens import PREFIX, parse_tokens, whose
from infra.access.watched_file import Watched
from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.access.guard import Guard, is_loopback
from readapi.access.rate_limits import RateLimits
from readapi.http.identities import Identity

if TYPE_CHECKING:
    from infra.access.jwts import Jwts


class Tokens:
    """The authenticator: static tokens, JWTs, or both. Raises StartupError if a file of theirs cannot be read."""

    def __init__(self, settings: Settings) -> None:
        self._tokens = (
            Watched("TICKVIEW_TOKENS_FILE", settings.tokens_file, parse_tokens) if settings.tokens_file else None
        )
        self._jwts = _open_jwts(settings)

    def identify(self, token: str) -> Identity | None:
        """As Authenticator."""
        if self._tokens and token.startswith(f"{PREFIX}_"):
            return whose(token, self._tokens.content)
        return self._jwts.whose(token) if self._jwts else None


def _open_jwts(settings: Settings) -> "Jwts | None":
    if not (settings.jwt_issuer and settings.jwt_audience and settings.jwt_jwks_file):
        return None
    # Only now: with the cryptography that they bring, they take ten megabytes in each process.
    from infra.access.jwks import KeyReader
    from infra.access.jwts import Jwts

    keys = Watched("TICKVIEW_JWT_JWKS_FILE", settings.jwt_jwks_file, KeyReader().read)
    return Jwts(settings.jwt_issuer, settings.jwt_audience, keys)


def open_guard(settings: Settings) -> Guard:
    """The guard. Raises StartupError if a file of tokens or keys cannot be read."""
    if not settings.authenticates:
        return Guard(origins=settings.cors_origins)
    rates = RateLimits(settings.rate_limit, settings.rate_burst) if settings.rate_limit else None
    return Guard(Tokens(settings), settings.cors_origins, rates)


def check_exposure(settings: Settings) -> None:
    """Raises StartupError where others than this machine would be served without being asked who they are."""
    if not settings.authenticates and not (
        settings.host.lower() == "localhost" or is_loopback(settings.host.strip("[]"))
    ):
        raise StartupError(
            f"TICKVIEW_HOST={settings.host} can be reached from elsewhere, and nobody would be asked who they are: "
            "set TICKVIEW_TOKENS_FILE (see `tickview token create`) or TICKVIEW_JWT_ISSUER, or listen on 127.0.0.1"
        )
