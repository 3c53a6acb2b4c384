"""When an append counts as done: the server has it, has it on disk, or other servers have it too."""

from collections.abc import Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from infra.log.errors import NotDurableError, UnsuitableServerError
from infra.redis import functions
from infra.redis.cluster import run_on_key_node
from infra.settings import Durability

WAIT_MILLISECONDS = 5_000
"""How long an append waits to become durable; shorter than the time-out of a connection."""


def check_durability(client: Redis | RedisCluster, durability: Durability, replicas: int) -> None:
    """See that every primary server behind ``client`` can keep the promise of ``durability``.

    ``replicas`` counts only for ``replicated``. Raises UnsuitableServerError, saying what to change.
    """
    if isinstance(client, RedisCluster):
        nodes = [client.get_redis_connection(node) for node in client.get_primaries()]
    else:
        nodes = [client]
    for node in nodes:
        wait_command(node, durability, replicas)


def wait_command(node: Redis, durability: Durability, replicas: int) -> tuple[str | int, ...]:
    """The command that waits until its connection's last write is durable; empty where there is no need.

    Raises UnsuitableServerError.
    """
    version = _version(node)
    if version < (7, 0):
        raise UnsuitableServerError(
            f"the server is version {_text(version)}: use Redis 7.0 or later, or Valkey 7.2 or later"
        )
    if durability == "replicated":
        _need_replicas(node, replicas)
        return ("WAIT", replicas, WAIT_MILLISECONDS)
    if durability == "fsynced":
        _need_append_only_file(node)
        if version >= (7, 2):
            return ("WAITAOF", 1, 0, WAIT_MILLISECONDS)
        _need_fsync_always(node, version)
    return ()


class DurableFunctions:
    """Calls server-side functions; what a call has written is durable when it returns.

    Each function must bear being repeated with the same arguments: a call whose reply is lost is repeated.
    """

    def __init__(self, client: Redis | RedisCluster, durability: Durability, replicas: int) -> None:
        self._client = client
        self._durability = durability
        self._replicas = replicas
        self._wait: tuple[str | int, ...] | None = None

    def call(self, name: str, keys: Sequence[str], arguments: Sequence[functions.Argument]) -> Any:
        """The reply of the function of ``<name>.lua``.

        Raises UnsuitableServerError before the first call, NotDurableError, and what redis-py raises.
        """
        command = functions.command(name, keys, arguments)

        def call_and_wait(node: Redis) -> Any:
            if self._wait is None:
                self._wait = wait_command(node, self._durability, self._replicas)
            wait = self._wait
            return functions.with_functions(node, lambda: _call_and_wait(node, command, wait))

        return run_on_key_node(self._client, keys[0], call_and_wait)


def _call_and_wait(node: Redis, command: list[functions.Argument], wait: tuple[str | int, ...]) -> Any:
    if not wait:
        return node.execute_command(*command)
    # The server waits for what this connection has written: both must travel on one connection.
    with node.pipeline(transaction=False) as pipeline:
        pipeline.execute_command(*command)
        pipeline.execute_command(*wait)
        reply, waited = pipeline.execute(raise_on_error=False)
    if isinstance(reply, Exception):
        raise reply
    if isinstance(waited, ResponseError):
        raise NotDurableError(f"recorded, but not known to be durable: {waited}") from waited
    reached = waited[0] if isinstance(waited, list) else waited
    wanted = int(wait[1])
    if reached < wanted:
        where = "disks" if wait[0] == "WAITAOF" else "replicas"
        seconds = WAIT_MILLISECONDS / 1000
        raise NotDurableError(f"recorded, but after {seconds:g} s on {reached} of {wanted} {where}: append it again")
    return reply


def _version(node: Redis) -> tuple[int, int]:
    # Valkey says here which Redis it is compatible with: 7.2.
    major, minor, *_ = node.info("server")["redis_version"].split(".")
    return int(major), int(minor)


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _need_replicas(node: Redis, replicas: int) -> None:
    connected = node.info("replication")["connected_slaves"]
    if connected < replicas:
        raise UnsuitableServerError(
            f"TICKVIEW_DURABILITY=replicated needs {replicas} replicas and the server has {connected}: "
            "add replicas or lower TICKVIEW_REPLICAS"
        )


def _need_append_only_file(node: Redis) -> None:
    if not node.info("persistence")["aof_enabled"]:
        raise UnsuitableServerError(
            "TICKVIEW_DURABILITY=fsynced needs an append-only file: "
            "set 'appendonly yes' on the server, or TICKVIEW_DURABILITY=written"
        )


def _need_fsync_always(node: Redis, version: tuple[int, int]) -> None:
    advice = "set 'appendfsync always' on the server, use version 7.2 or later, or set TICKVIEW_DURABILITY=written"
    try:
        setting = node.config_get("appendfsync").get("appendfsync")
    except NoPermissionError as error:
        raise UnsuitableServerError(
            f"TICKVIEW_DURABILITY=fsynced cannot be checked: CONFIG GET is denied ({advice})"
        ) from error
    if setting != "always":
        raise UnsuitableServerError(
            f"TICKVIEW_DURABILITY=fsynced needs WAITAOF, which version {_text(version)} lacks: {advice}"
        )
