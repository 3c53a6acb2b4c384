"""Connections that notice a failover, and that fail with an error of redis-py only.

redis-py keeps connections to a server that has become a replica: writes fail for ever with ``READONLY``, and reads get
what the replica has. When one connection of a process learns of the failover, it and all others are replaced before
their next command, because the address may lead to the new primary server now.
"""

from typing import Any

from redis import connection as blocking
from redis import sentinel as blocking_sentinel
from redis.asyncio import connection as asynchronous
from redis.asyncio import sentinel as asynchronous_sentinel
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from infra.redis.server_errors import must_reconnect

CLOSED_TRANSPORT = "unable to perform operation on"
"""Beginning of the text of the ``RuntimeError`` that uvloop raises for a connection which the server has closed."""


class _Failovers:
    """The number of failovers that this process has noticed."""

    number = 0


class _Blocking:
    """A blocking connection that leaves a server which has become a replica."""

    _failovers = 0
    """The number of failovers when the connection was made."""

    def _connect(self) -> Any:
        self._failovers = _Failovers.number
        return super()._connect()  # type: ignore[misc]

    def send_packed_command(self, *arguments: Any, **options: Any) -> Any:
        if self.is_connected and self._failovers != _Failovers.number:  # type: ignore[attr-defined]
            self.disconnect()  # type: ignore[attr-defined]
        return super().send_packed_command(*arguments, **options)  # type: ignore[misc]

    def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not must_reconnect(error):
                raise
            _Failovers.number += 1
            self.disconnect()  # type: ignore[attr-defined]
            raise RedisConnectionError(str(error)) from error


class _Asynchronous:
    """An asynchronous connection that leaves a server which has become a replica."""

    _failovers = 0
    """The number of failovers when the connection was made."""

    async def _connect(self) -> Any:
        self._failovers = _Failovers.number
        return await super()._connect()  # type: ignore[misc]

    async def send_packed_command(self, *arguments: Any, **options: Any) -> Any:
        if self.is_connected and self._failovers != _Failovers.number:  # type: ignore[attr-defined]
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
        try:
            return await super().send_packed_command(*arguments, **options)  # type: ignore[misc]
        except RuntimeError as error:
            if not str(error).startswith(CLOSED_TRANSPORT):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise RedisConnectionError(str(error)) from error
        except AttributeError as error:
            # A client of a cluster closes connections that other tasks use, when it reads the nodes again.
            if self.is_connected:  # type: ignore[attr-defined]
                raise
            raise RedisConnectionError("the connection was closed by another task") from error

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*arguments, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not must_reconnect(error):
                raise
            _Failovers.number += 1
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise RedisConnectionError(str(error)) from error


class _Connection(_Blocking, blocking.Connection):
    pass


class _SSLConnection(_Blocking, blocking.SSLConnection):
    pass


class _UnixConnection(_Blocking, blocking.UnixDomainSocketConnection):
    pass


class _AsyncConnection(_Asynchronous, asynchronous.Connection):
    pass


class _AsyncSSLConnection(_Asynchronous, asynchronous.SSLConnection):
    pass


class _AsyncUnixConnection(_Asynchronous, asynchronous.UnixDomainSocketConnection):
    pass


class _SentinelConnection(_Blocking, blocking_sentinel.SentinelManagedConnection):
    pass


class _SentinelSSLConnection(_Blocking, blocking_sentinel.SentinelManagedSSLConnection):
    pass


class _AsyncSentinelConnection(_Asynchronous, asynchronous_sentinel.SentinelManagedConnection):
    pass


class _AsyncSentinelSSLConnection(_Asynchronous, asynchronous_sentinel.SentinelManagedSSLConnection):
    pass


_CLASSES: dict[type[Any], type[Any]] = {
    base: own
    for own in (
        _Connection,
        _SSLConnection,
        _UnixConnection,
        _AsyncConnection,
        _AsyncSSLConnection,
        _AsyncUnixConnection,
    )
    for base in own.__bases__[1:]
}
"""Connection class of redis-py -> own class."""

SENTINEL_CLASSES: dict[type[Any], type[Any]] = {
    _Connection: _SentinelConnection,
    _SSLConnection: _SentinelSSLConnection,
    _AsyncConnection: _AsyncSentinelConnection,
    _AsyncSSLConnection: _AsyncSentinelSSLConnection,
}
"""Class of the connections to one server -> class of connections whose server Sentinels name."""


_IGNORED_OPTIONS = ("protocol", "decode_responses", "socket_timeout")
"""Options of a URL that are not passed on: replies would have other types, or blocking reads would time out."""


def connection_options(url: str) -> dict[str, Any]:
    """Return the options of a blocking connection pool for a server."""
    return _own_options(dict(blocking.parse_url(url)), blocking.Connection)


def async_connection_options(url: str) -> dict[str, Any]:
    """Return the options of an asynchronous connection pool for a server."""
    return _own_options(dict(asynchronous.parse_url(url)), asynchronous.Connection)


def _own_options(options: dict[str, Any], default: type[Any]) -> dict[str, Any]:
    own = {name: value for name, value in options.items() if name not in _IGNORED_OPTIONS}
    return {**own, "connection_class": _CLASSES[options.get("connection_class", default)]}
