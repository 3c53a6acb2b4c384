"""The URLs of Redis: of one server, of a cluster, and of the primary server that Sentinels name.

Error messages never contain the URL, because it may contain a password.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis import ConnectionPool, RedisError

Kind = Literal["server", "cluster", "sentinel"]

_SCHEMES: dict[str, tuple[str, Kind]] = {
    "redis": ("redis", "server"),
    "rediss": ("rediss", "server"),
    "unix": ("unix", "server"),
    "redis+cluster": ("redis", "cluster"),
    "rediss+cluster": ("rediss", "cluster"),
    "redis+sentinel": ("redis", "sentinel"),
    "rediss+sentinel": ("rediss", "sentinel"),
}
"""Scheme of a URL -> scheme of the URL of each server, and kind of the servers."""

_DEFAULT_PORTS = {"cluster": 6379, "sentinel": 26379}

_SENTINEL_OPTIONS = {"sentinel_username": "username", "sentinel_password": "password"}
"""Parameter of a URL -> option of the connections to Sentinels."""

_MISREAD = (
    "is not a valid URL. Check the hosts, the ports and the parameters after the ?, and percent-encode special "
    "characters in the password: write / as %2F."
)


class Host(NamedTuple):
    """The address of a node of a cluster, or of a Sentinel."""

    name: str
    port: int


@dataclass(frozen=True)
class RedisUrl:
    """The parts of a URL of Redis."""

    kind: Kind
    """One server, a cluster, or the primary server of a service that Sentinels watch."""
    server_url: str
    """The URL of one server, with the user, the database and the parameters of all servers. redis-py reads it."""
    hosts: tuple[Host, ...] = ()
    """The known nodes of the cluster, or the Sentinels. Empty for one server."""
    service: str = ""
    """The name that Sentinels have for the server and its replicas."""
    sentinel_user: tuple[tuple[str, str], ...] = ()
    """The user and the password for the Sentinels, as options of redis-py."""

    @property
    def node_url(self) -> str:
        """The URL of the first host without the user and the parameters."""
        return f"redis://{_format_host(self.hosts[0])}"

    @property
    def uses_tls(self) -> bool:
        """Whether all connections use TLS."""
        return self.server_url.startswith("rediss:")


def parse_redis_url(url: str) -> RedisUrl:
    """Parse and validate a URL of Redis.

    Args:
        url: ``redis://user:password@host:port/database``, ``redis+cluster://user:password@host:port,host:port``,
            ``redis+sentinel://user:password@host:port,host:port/service/database``, the same with ``rediss`` for TLS,
            or ``unix://user:password@path``.

    Raises:
        ValueError: The scheme is unknown, or the URL cannot be parsed. The message does not contain the URL.
    """
    scheme, kind = _scheme_of(url)
    try:
        parts = urlsplit(url)
        misread = _is_misread(parts)
    except ValueError:
        misread = True
    if misread:
        raise ValueError(_MISREAD)
    parsed = RedisUrl(kind, url) if kind == "server" else _parse_hosts(parts, scheme, kind)
    try:
        ConnectionPool.from_url(parsed.server_url).make_connection()
    except (ValueError, TypeError, RedisError):
        raise ValueError(_MISREAD) from None
    if kind == "server" and scheme != "unix":
        _check_database(parts.path.strip("/"), "after the host and the /")
    return parsed


def _scheme_of(url: str) -> tuple[str, Kind]:
    name, separator, _ = url.partition("://")
    if not separator or name not in _SCHEMES:
        raise ValueError(
            "must begin with redis://, redis+cluster:// or redis+sentinel://, with rediss instead of redis for TLS, "
            "or with unix://"
        )
    return _SCHEMES[name]


def _is_misread(parts: SplitResult) -> bool:
    """Return whether a part of a password was taken for another part of the URL.

    A password with an unquoted ? or # ends the host early: the host then follows an @ in the query or fragment.
    """
    return any("@" in part and "=" not in part for part in (*parts.query.split("&"), parts.fragment))


def _parse_hosts(parts: SplitResult, scheme: str, kind: Kind) -> RedisUrl:
    user, separator, addresses = parts.netloc.rpartition("@")
    hosts = tuple(_parse_host(address, _DEFAULT_PORTS[kind]) for address in addresses.split(","))
    service, database = _parse_path(parts.path, kind)
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    server_url = f"{scheme}://{user}{separator}{_format_host(hosts[0])}/{database}"
    if options := [(name, value) for name, value in parameters if name not in _SENTINEL_OPTIONS]:
        server_url += f"?{urlencode(options)}"
    sentinel_user = tuple((_SENTINEL_OPTIONS[name], value) for name, value in parameters if name in _SENTINEL_OPTIONS)
    if sentinel_user and kind != "sentinel":
        raise ValueError("has a user or a password for Sentinels, but names no Sentinels")
    return RedisUrl(kind, server_url, hosts, service, sentinel_user)


def _parse_host(address: str, default_port: int) -> Host:
    try:
        parts = urlsplit(f"//{address}")
        name, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_MISREAD) from None
    if not name or parts.path or port == 0:
        raise ValueError(_MISREAD)
    return Host(unquote(name), default_port if port is None else port)


def _format_host(host: Host) -> str:
    return f"[{host.name}]:{host.port}" if ":" in host.name else f"{host.name}:{host.port}"


def _parse_path(path: str, kind: Kind) -> tuple[str, str]:
    """Return the service and the database that the path of a URL names."""
    if "@" in path:  # An unquoted / in the password has ended the hosts early.
        raise ValueError(_MISREAD)
    names = path.strip("/").split("/")
    if kind == "cluster":
        if names not in ([""], ["0"]):
            raise ValueError("must have nothing after the hosts: a cluster has the database 0 alone")
        return "", "0"
    service, *rest = map(unquote, names)
    if not service or service.isdecimal() or len(rest) > 1:
        raise ValueError("must have the name of the service after the hosts, then the database number: /service/0")
    database = rest[0] if rest else "0"
    _check_database(database, "after the service and the /")
    return service, database


def _check_database(number: str, place: str) -> None:
    if number and not (number.isascii() and number.isdecimal()):
        raise ValueError(f"must have a database number, or nothing, {place}")
