"""The addresses of the platform's servers, built from the variables of the TickStock platform."""

from urllib.parse import quote

from pydantic import SecretStr


def build_redis_url(host: str, port: int, database: int, password: SecretStr | None) -> str:
    """Return the URL of the platform's Redis."""
    user_info = f":{_quote_secret(password)}@" if password else ""
    return f"redis://{user_info}{host}:{port}/{database}"


def build_postgres_dsn(host: str, port: int, database: str, user: str, password: SecretStr | None) -> str:
    """Return the DSN of the platform's PostgreSQL."""
    user_info = quote(user, safe="") + (f":{_quote_secret(password)}" if password else "")
    return f"postgresql://{user_info}@{host}:{port}/{quote(database, safe='')}"


def plain_postgres_dsn(uri: str) -> str | None:
    """Return a URL of PostgreSQL without the driver that SQLAlchemy accepts in it. None for other database systems."""
    scheme, separator, rest = uri.partition("://")
    system, _, _driver = scheme.lower().partition("+")
    return f"postgresql://{rest}" if separator and system in ("postgresql", "postgres") else None


def _quote_secret(secret: SecretStr) -> str:
    return quote(secret.get_secret_value(), safe="")
