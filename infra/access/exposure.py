"""The check that no API without authentication can be reached from other machines."""

from infra.processes.errors import StartupError
from infra.settings import Settings
from readapi.access.client_address import parse_address


def check_exposure(settings: Settings) -> None:
    """Check that an API without authentication listens on a loopback address only.

    Raises:
        StartupError: The API would serve other machines without authentication.
    """
    if not settings.authenticates and not _is_loopback(settings.host):
        raise StartupError(
            f"TICKVIEW_HOST={settings.host} can be reached from other machines, but no authentication is configured. "
            "Set TICKVIEW_TOKENS_FILE (see `tickview token create --help`) or TICKVIEW_JWT_ISSUER, "
            "or listen on 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    address = parse_address(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)
