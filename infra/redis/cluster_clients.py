"""Clients of a cluster: those of redis-py, which connect on first use and raise errors of redis-py's servers only.

redis-py finds the node of a command by its keys. It asks a server for the keys of a function call and of a read of
streams each time; these clients know them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from functools import wraps
from threading import RLock
from typing import TYPE_CHECKING, Any

from redis import RedisCluster
from redis.asyncio import RedisCluster as AsyncRedisCluster
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import ClusterPipeline as AsyncClusterPipeline
from redis.asyncio.cluster import ClusterPubSub as AsyncClusterPubSub
from redis.cluster import PRIMARY, ClusterNode, ClusterPipeline
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError, ResponseError, SlotNotCoveredError
from redis.exceptions import ConnectionError as RedisConnectionError

NODES_SECONDS = 3.0
"""Seconds after which a client reads the nodes of its cluster again, when all primaries are needed."""


def keys_of(command: Sequence[Any]) -> Sequence[Any] | None:
    """Return the keys of a function call or of a read of streams. None for any other command."""
    name = command[0]
    if name in ("FCALL", "FCALL_RO"):
        return command[3 : 3 + int(command[2])]
    if name in ("XREAD", "XREADGROUP"):
        streams = command[list(command).index(b"STREAMS") + 1 :]
        return streams[: len(streams) // 2]
    return None


@contextmanager
def _server_errors() -> Iterator[None]:
    """Turn the errors of redis-py for a cluster that cannot be reached into errors of connections."""
    try:
        yield
    except SlotNotCoveredError as error:
        raise RedisConnectionError(str(error)) from error


def _initialization_error(error: RedisClusterException) -> RedisError:
    """Return the error of a server for a cluster whose nodes could not be read."""
    cause = error.__cause__
    if isinstance(cause, AuthenticationError):
        return AuthenticationError(str(cause))
    if isinstance(cause, RedisClusterException):  # A server has refused CLUSTER SLOTS.
        return ResponseError(str(cause))
    return RedisConnectionError(str(error))


class _Routes(RedisCluster):
    """The routes of the commands of a client and of its pipelines."""

    def _get_command_keys(self, *command: Any) -> Any:
        return keys_of(command) or super()._get_command_keys(*command)  # type: ignore[no-untyped-call]

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> Any:
        """Return a node. A primary without a slot, to which a key is being moved, is unknown until then."""
        node = super().get_node(host, port, node_name)  # type: ignore[no-untyped-call]
        if node is None and node_name:
            node = ClusterNode(*_address(node_name), PRIMARY)
            self.nodes_manager.nodes_cache[node.name] = node
        return node


def _address(node_name: str) -> tuple[str, int]:
    host, _, port = node_name.rpartition(":")
    return host, int(port)


class _Pipeline(_Routes, ClusterPipeline):
    """A pipeline that is split by node. Several commands of one slot can be a transaction."""

    def publish(self, channel: Any, message: Any, **options: Any) -> Any:
        """Publish a message, which any node passes on. redis-py allows this outside of pipelines only."""
        return self.execute_command("PUBLISH", channel, message, **options)  # type: ignore[no-untyped-call]

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _server_errors():
            return super().execute(raise_on_error)


class ClusterClient(_Routes):
    """A client of a cluster.

    Args:
        options: Returns the arguments of ``RedisCluster``, anew for each attempt to connect.
    """

    def __init__(self, options: Callable[[], Mapping[str, Any]]) -> None:
        # The base class connects when it is initialized, and its attributes exist afterwards only.
        self._options = options
        self._opening = RLock()
        self._is_opening = self._is_open = False
        self._nodes_read_at = 0.0

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Connect when an attribute of the base class is needed for the first time."""
            with self._opening:
                if name not in self.__dict__ and not (name.startswith("__") or self._is_opening or self._is_open):
                    self._open()
            try:
                return self.__dict__[name]
            except KeyError:
                raise AttributeError(name) from None

    def _open(self) -> None:
        self._is_opening = True
        try:
            super().__init__(**self._options())
        except RedisClusterException as error:
            raise _initialization_error(error) from error
        finally:
            self._is_opening = False
        self._nodes_read_at = time.monotonic()
        manager = self.nodes_manager
        manager.initialize = _with_server_errors(manager.initialize)  # type: ignore[method-assign]
        self._is_open = True

    def get_primaries(self) -> list[ClusterNode]:
        """Return the primaries. The nodes are read again if that is longer ago than ``NODES_SECONDS``.

        No command tells of a primary that has joined, or of one that answers although a replica has taken over.
        """
        now = time.monotonic()
        if now - self._nodes_read_at > NODES_SECONDS:
            self._nodes_read_at = now
            with suppress(RedisError):
                self.nodes_manager.initialize(disconnect_startup_nodes_pools=False)
        return list(super().get_primaries())  # type: ignore[no-untyped-call]

    def execute_command(self, *command: Any, **options: Any) -> Any:
        """Execute a command on the node of its keys, or on the node that redis-py chooses for its name."""
        with _server_errors():
            return super().execute_command(*command, **options)  # type: ignore[no-untyped-call]

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> ClusterPipeline:
        """Return a pipeline. With ``transaction``, all keys must be in one slot."""
        del shard_hint
        return _Pipeline(
            nodes_manager=self.nodes_manager,
            commands_parser=self.commands_parser,
            startup_nodes=self.startup_nodes,
            result_callbacks=self.result_callbacks,
            cluster_response_callbacks=self.cluster_response_callbacks,
            reinitialize_steps=self.reinitialize_steps,
            retry=self.retry,
            lock=self._lock,
            transaction=transaction,
        )

    def close(self) -> None:
        """Close all connections."""
        if self._is_open:
            super().close()


def _with_server_errors(initialize: Callable[..., None]) -> Callable[..., None]:
    @wraps(initialize)
    def initialize_or_raise(*arguments: Any, **options: Any) -> None:
        try:
            initialize(*arguments, **options)
        except RedisClusterException as error:
            raise _initialization_error(error) from error

    return initialize_or_raise


class _AsyncPipeline(AsyncClusterPipeline):
    """An asynchronous pipeline that is split by node."""

    def publish(self, channel: Any, message: Any, **options: Any) -> Any:
        """Publish a message, which any node passes on. redis-py allows this outside of pipelines only."""
        return self.execute_command("PUBLISH", channel, message, **options)

    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        client: Any = self.cluster_client
        async with client.free_connection():
            with _server_errors():
                return await super().execute(raise_on_error, allow_redirections)


class _AsyncPubSub(AsyncClusterPubSub):
    """A subscription that reads the nodes of the cluster first."""

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        await self.cluster.initialize()
        return await super().execute_command(*command, **options)


_has_connection: ContextVar[bool] = ContextVar("_has_connection", default=False)
"""Whether the present call has waited for its connection. The commands of a pipeline that are redirected have not."""


class AsyncClusterClient(AsyncRedisCluster):
    """An asynchronous client of a cluster.

    redis-py does not wait for a free connection: it fails if all are in use. This client lets calls wait. Reads that
    block do not count, because each of them occupies a connection for long.

    Args:
        connection_class: The class of the connections.
        connections: The highest number of connections to each node, beside those of reads that block.
        seconds: Seconds for which a call waits for a connection.
        options: The arguments of the base class.
    """

    def __init__(
        self, connection_class: type[Any], connections: int, seconds: float, options: Mapping[str, Any]
    ) -> None:
        super().__init__(**options)
        self._connections = asyncio.Semaphore(connections)
        self._connection_seconds = seconds
        self.connection_kwargs["connection_class"] = connection_class
        for node in self.startup_nodes:
            node.connection_class = connection_class

    async def initialize(self, *arguments: Any, **options: Any) -> "AsyncClusterClient":
        """Read the nodes of the cluster, if that is due."""
        try:
            await super().initialize(*arguments, **options)
        except RedisClusterException as error:
            raise _initialization_error(error) from error
        return self

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> AsyncClusterNode | None:
        """Return a node. A primary without a slot, to which a key is being moved, is unknown until then."""
        node = super().get_node(host, port, node_name)
        if node is None and node_name:
            node = AsyncClusterNode(*_address(node_name), PRIMARY, **self.connection_kwargs)
            self.nodes_manager.nodes_cache[node.name] = node
        return node

    async def _determine_slot(self, command: str, *arguments: Any) -> int:
        if keys := keys_of((command, *arguments)):
            slots = set(map(self.keyslot, keys))
            if len(slots) > 1:
                raise RedisClusterException(f"{command}: all keys must be in one slot")
            return slots.pop()
        return await super()._determine_slot(command, *arguments)

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        """Execute a command on the node of its keys, or on the node that redis-py chooses for its name."""
        if b"BLOCK" in command:
            with _server_errors():
                return await super().execute_command(*command, **options)
        async with self.free_connection():
            with _server_errors():
                return await super().execute_command(*command, **options)

    @asynccontextmanager
    async def free_connection(self) -> AsyncIterator[None]:
        """Wait until each node has a free connection, and keep others from it until the context ends.

        Raises:
            redis.exceptions.ConnectionError: No connection becomes free in time.
        """
        if _has_connection.get():
            yield
            return
        try:
            async with asyncio.timeout(self._connection_seconds):
                await self._connections.acquire()
        except TimeoutError as error:
            raise RedisConnectionError("no connection is free") from error
        token = _has_connection.set(True)
        try:
            yield
        finally:
            _has_connection.reset(token)
            self._connections.release()

    def pipeline(self, transaction: Any = None, shard_hint: Any = None) -> AsyncClusterPipeline:
        """Return a pipeline. With ``transaction``, all keys must be in one slot."""
        del shard_hint
        return _AsyncPipeline(self, transaction)  # type: ignore[abstract]

    def pubsub(self, *arguments: Any, **options: Any) -> AsyncClusterPubSub:
        """Return a subscription at one of the nodes, which pass on all messages to each other."""
        return _AsyncPubSub(self, *arguments, **options)
