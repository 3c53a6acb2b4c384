"""Validation of PostgreSQL URLs. Error messages never contain the URL, because it may contain a password.

The messages of the driver contain the URL: ``missing "=" after "postgres+x://me:secret@…"``.
"""

import re

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict

_PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", re.IGNORECASE)
"""A password in a DSN of keywords and values, or in the query parameters of a URL."""


def check_postgres_dsn(dsn: str) -> None:
    """Validate a PostgreSQL connection string.

    See https://www.postgresql.org/docs/current/libpq-connect.html ("Connection Strings").

    Raises:
        ValueError: The string is neither a URI nor keywords and values. The message does not contain the string.
    """
    try:
        ports = str(conninfo_to_dict(dsn).get("port", "")).split(",")
    except (Error, UnicodeDecodeError):
        ports = ["invalid"]
    # An unquoted / in a password makes libpq read a part of the password as the port, and show it in later errors.
    if not all(port == "" or port.isdigit() for port in ports):
        raise ValueError(
            "is neither a PostgreSQL URI (postgresql://user:password@host/name) nor keywords and values "
            "(host=… dbname=…). Check the port and the parameters, and percent-encode special characters in the "
            "password: write / as %2F."
        )


def without_password(url: str) -> str:
    """Replace the user and the password of a URL or DSN by ``…``."""
    scheme, separator, rest = url.rpartition("@")
    masked = f"{scheme.split('//')[0]}//…@{rest}" if separator else url
    return _PASSWORD.sub(r"\1…", masked)
