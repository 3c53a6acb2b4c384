"""Whether a connection can be made of a server's address; what is said of one that is none repeats nothing of it.

The drivers' own messages do: ``missing "=" after "postgres+x://me:secret@…"``.
"""

from urllib.parse import urlsplit

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict
from redis import ConnectionPool, RedisError


def check_redis_url(url: str) -> None:
    """Raises ValueError for a URL that no connection can be made of, or that names no database by its number."""
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should begin with redis://, rediss:// (over TLS) or unix://")
    try:
        ConnectionPool.from_url(url).make_connection()
        number = "" if url.startswith("unix://") else urlsplit(url).path.strip("/")
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            "is no URL that can be connected to: see its port and the parameters behind the ?, and write what is "
            "special in a password as %2F"
        ) from None
    if number and not (number.isascii() and number.isdecimal()):
        raise ValueError("should have the number of a database behind the host and /, or nothing")


def check_postgres_dsn(dsn: str) -> None:
    """Raises ValueError for what is neither a URI nor keywords and values of PostgreSQL."""
    try:
        conninfo_to_dict(dsn)
    except (Error, UnicodeDecodeError):
        raise ValueError(
            "is neither a URI of PostgreSQL (postgresql://user:password@host/name) nor keywords and values "
            "(host=… dbname=…): see its parameters, and write what is special in a password as %2F"
        ) from None
