"""Whether a connection can be made of a server's address; what is said of one that is none repeats nothing of it.

The drivers' own messages do: ``missing "=" after "postgres+x://me:secret@…"``.
"""

import re
from urllib.parse import urlsplit

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict
from redis import ConnectionPool, RedisError

_PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
"""A password in a DSN that is not a URL, or among the parameters of a URL."""


def check_redis_url(url: str) -> None:
    """Raises ValueError for a URL that no connection can be made of, or that names no database by its number."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should begin with redis://, rediss:// (over TLS) or unix://")
    try:
        ConnectionPool.from_url(url).make_connection()
        _, _, path, query, fragment = urlsplit(url)
        # The rest of a password, and the host behind it.
        misread = any("@" in part and "=" not in part for part in (*query.split("&"), fragment))
    except (ValueError, TypeError, RedisError):
        misread = True
    if misread:
        raise ValueError(
            "is no URL that can be connected to: see its port and the parameters behind the ?, and write what is "
            "special in a password as %2F"
        )
    number = "" if url.startswith("unix://") else path.strip("/")
    if number and not (number.isascii() and number.isdecimal()):
        raise ValueError("should have the number of a database behind the host and /, or nothing")


def check_postgres_dsn(dsn: str) -> None:
    """Raises ValueError for what is neither a URI nor keywords and values of PostgreSQL."""
    try:
        port = str(conninfo_to_dict(dsn).get("port", "0"))
    except (Error, UnicodeDecodeError):
        port = ""
    # Part of a password that is misread as a port would be told to everybody.
    if not port.replace(",", "").isdigit():
        raise ValueError(
            "is neither a URI of PostgreSQL (postgresql://user:password@host/name) nor keywords and values "
            "(host=… dbname=…): see its port and parameters, and write what is special in a password as %2F"
        )


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    scheme, separator, rest = url.rpartition("@")
    shown = f"{scheme.split('//')[0]}//…@{rest}" if separator else url
    return _PASSWORD.sub(r"\1…", shown)
