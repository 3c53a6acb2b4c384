"""Durability of appends: server-side function calls that return when their writes have the required durability.

Redis documents the commands at https://redis.io/docs/latest/commands/wait/ and
https://redis.io/docs/latest/commands/waitaof/.
"""

import time
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from redis import Redis
from redis.exceptions import BusyLoadingError, NoPermissionError, ResponseError

from infra.log.errors import NotDurableError, UnsuitableServerError
from infra.redis import functions
from infra.redis.cluster import run_on_key_node, run_on_primaries
from infra.redis.connections import RedisClient
from infra.redis.pending_call import PendingCall
from infra.redis.server_state import eviction_fault
from infra.settings import Durability

WAIT_MILLISECONDS = 5_000
"""Milliseconds for which an append waits to become durable. It is shorter than the time-out of a connection."""

CHECK_SECONDS = 1.0
"""Seconds after which the next append checks the configuration of the server again."""


def check_durability(client: RedisClient, durability: Durability, replicas: int) -> None:
    """Check that every primary server behind ``client`` can provide the durability, and deletes no acknowledged event.

    Args:
        client: A client of a server or of a cluster.
        durability: The required durability.
        replicas: The number of replicas that ``replicated`` needs.

    Raises:
        UnsuitableServerError: A server cannot provide the durability. The message names the setting to change.
    """
    run_on_primaries(client, lambda node: wait_command(node, durability, replicas))


def wait_command(node: Redis, durability: Durability, replicas: int) -> tuple[str | int, ...]:
    """Return the command that waits until the last write of its connection is durable.

    The command is empty if every write is durable when the server replies.

    Raises:
        UnsuitableServerError: The server cannot provide the durability, or may delete what it has acknowledged.
    """
    info = _read_info(node)
    version = _version(info)
    if version < (7, 0):
        raise UnsuitableServerError(
            f"the server is version {_format_version(version)}: use Redis 7.0 or later, or Valkey 7.2 or later"
        )
    if fault := eviction_fault(info):
        raise UnsuitableServerError(f"the server {fault}")
    if durability == "replicated":
        _check_replicas(info, replicas)
        return ("WAIT", replicas, WAIT_MILLISECONDS)
    if durability == "fsynced":
        _check_append_only_file(info)
        if version >= (7, 2):
            return ("WAITAOF", 1, 0, WAIT_MILLISECONDS)
        _check_fsync_always(node, version)
    return ()


class DurableFunctions:
    """Calls of server-side functions whose writes are durable when the call returns.

    A call whose reply is lost is repeated. Each function must therefore have the same effect when it is repeated with
    the same arguments.

    Args:
        client: A client of a server or of a cluster.
        durability: The durability that each call waits for.
        replicas: The number of replicas that ``replicated`` waits for.
    """

    def __init__(self, client: RedisClient, durability: Durability, replicas: int) -> None:
        self._client = client
        self._durability = durability
        self._replicas = replicas
        self._wait: tuple[str | int, ...] = ()
        self._checked_at = -inf

    def call(
        self, name: str, keys: Sequence[str], arguments: Sequence[functions.Argument], *, despite_oom: bool = False
    ) -> Any:
        """Call the function of ``<name>.lua``, wait until its writes are durable, and return its reply.

        The parameters and the errors are those of ``begin`` and of ``DurableCall.result``.
        """
        return self.begin(name, keys, arguments, despite_oom=despite_oom).result()

    def begin(
        self, name: str, keys: Sequence[str], arguments: Sequence[functions.Argument], *, despite_oom: bool = False
    ) -> "DurableCall":
        """Send a call of the function of ``<name>.lua``. The caller can work until it needs the reply.

        Args:
            name: The name of the file without ``.lua``.
            keys: The keys that the file declares.
            arguments: The arguments that the file declares.
            despite_oom: Whether a full server should run the function too.

        Raises:
            UnsuitableServerError: The server cannot provide the durability. The function was not called.
            redis.exceptions.RedisError: The server could not be checked. The function was not called.
        """
        if time.monotonic() - self._checked_at > CHECK_SECONDS:
            self._wait = run_on_key_node(
                self._client, keys[0], lambda node: wait_command(node, self._durability, self._replicas)
            )
            self._checked_at = time.monotonic()
        words = functions.command(name, keys, arguments, despite_oom=despite_oom)
        return DurableCall(self._client, words, self._wait)


class DurableCall(PendingCall):
    """A call of a server-side function that was sent, and the wait until its writes are durable.

    Args:
        client: A client of a server or of a cluster.
        words: The words of the call.
        wait: The command that waits (``wait_command``). It concerns the writes of its own connection.
    """

    def __init__(self, client: RedisClient, words: Sequence[functions.Argument], wait: tuple[str | int, ...]) -> None:
        super().__init__(client, words, *([wait] if wait else []))
        self._wait = wait

    def result(self) -> Any:
        """Wait until the writes are durable, and return the reply of the function.

        Raises:
            NotDurableError: The function was called, but its writes are not yet durable.
            redis.exceptions.RedisError: The call failed.
        """
        reply, *waited = super().result()
        if self._wait:
            _check_acknowledged(self._wait, *waited)
        return reply


def _check_acknowledged(wait: tuple[str | int, ...], waited: Any) -> None:
    """Raise NotDurableError if the reply to ``wait`` does not confirm the durability."""
    if isinstance(waited, ResponseError):
        raise NotDurableError(f"The events are recorded, but not known to be durable: {waited}") from waited
    acknowledged = waited[0] if isinstance(waited, list) else waited
    required = int(wait[1])
    if acknowledged < required:
        places = "disks" if wait[0] == "WAITAOF" else "replicas"
        seconds = WAIT_MILLISECONDS / 1000
        raise NotDurableError(
            f"The events are recorded, but after {seconds:g} s only on {acknowledged} of {required} {places}. "
            "Append them again to wait longer."
        )


def _read_info(node: Redis) -> dict[str, Any]:
    info: dict[str, Any] = node.info()
    if info["loading"]:  # Until the end, the server reports that it has no append-only file.
        raise BusyLoadingError("Redis is loading the dataset in memory")
    return info


def _version(info: Mapping[str, Any]) -> tuple[int, int]:
    # Valkey reports in this field the Redis version that it is compatible with: 7.2.
    major, minor, *_ = info["redis_version"].split(".")
    return int(major), int(minor)


def _format_version(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _check_replicas(info: Mapping[str, Any], replicas: int) -> None:
    connected = info["connected_slaves"]
    if connected < replicas:
        raise UnsuitableServerError(
            f"TICKVIEW_DURABILITY=replicated needs {replicas} replicas and the server has {connected}: "
            "add replicas or lower TICKVIEW_REPLICAS"
        )


def _check_append_only_file(info: Mapping[str, Any]) -> None:
    if not info["aof_enabled"]:
        raise UnsuitableServerError(
            "TICKVIEW_DURABILITY=fsynced needs an append-only file: "
            "set 'appendonly yes' on the server, or TICKVIEW_DURABILITY=written"
        )


def _check_fsync_always(node: Redis, version: tuple[int, int]) -> None:
    advice = "set 'appendfsync always' on the server, use version 7.2 or later, or set TICKVIEW_DURABILITY=written"
    try:
        setting = node.config_get("appendfsync").get("appendfsync")
    except NoPermissionError as error:
        raise UnsuitableServerError(
            "TICKVIEW_DURABILITY=fsynced cannot be checked, because the server denies CONFIG GET: "
            f"allow CONFIG GET, or {advice}"
        ) from error
    if setting != "always":
        raise UnsuitableServerError(
            f"TICKVIEW_DURABILITY=fsynced needs WAITAOF, which version {_format_version(version)} lacks: {advice}"
        )
