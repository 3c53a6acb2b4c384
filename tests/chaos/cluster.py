"""A Redis Cluster under chaos: primaries are lost, replicas take over, slots move, and nodes join."""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis, RedisCluster
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.chaos.producers import STREAM
from tests.chaos.redis_servers import Fault, Loss, NoteLoss, without_loss
from tests.chaos.replication import (
    DURABILITIES,
    FAILOVER_MILLISECONDS,
    NO_FAILOVER_MILLISECONDS,
    lagging,
    stopped,
    write_to_replicas,
)
from tests.clusters import Cluster, has_replica, is_primary, moving_slot, node_id, redis_cluster, start_node
from tests.processes.roles import wait_until

KEYS = [
    *(f"tickview:{{{log}}}:log" for log in ("market-0", "market-1", "market-2", "market-3", "users")),
    *(f"tickview:{{patterns/market-{number}}}:" for number in range(4)),
    *("tickview:{patterns}:versions", "tickview:{dead-letters}:index", "tickview:{heartbeats:pubsub}:moments"),
    *("tickview:intake:gaps", STREAM),
]
"""Keys of the slots that are moved."""

JOINED_SLOTS = 4
"""Number of the slots that are moved to a node which joins."""


class ClusterServers:
    """A cluster of three primaries with a replica each.

    Args:
        cluster: The cluster.
        durability: The durability of the roles. With ``replicated``, the loss of a primary loses no acknowledged event.
        folder: The folder of the nodes' data.
        stack: The contexts that end with the servers.
    """

    def __init__(self, cluster: Cluster, durability: str, folder: Path, stack: ExitStack) -> None:
        self.roles_url = cluster.url
        self.settings: Mapping[str, str] = {"TICKVIEW_DURABILITY": durability}
        self._durability = durability
        self._cluster = cluster
        self._first_nodes = len(cluster.nodes)
        self._ports = [server.port for server in cluster.servers]
        self._folder = folder
        self._stack = stack
        self._let_fail_over(self._is_safe)

    def client(self, **options: Any) -> RedisCluster:
        """Return a client for producers and the oracle."""
        nodes = [ClusterNode("127.0.0.1", port) for port in self._ports]
        return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)

    def add_to_stream(self, client: RedisCluster, stream: str, fields: Mapping[str, str]) -> None:
        """Add an entry to a stream, with ``replicated`` on the replica, too."""
        if not self._is_safe:
            client.xadd(stream, {**fields})
            return
        try:
            write_to_replicas(client.get_redis_connection(client.get_node_from_key(stream)), stream, fields)
        except RedisError:
            client.nodes_manager.initialize()
            raise

    def subscribers(self, channel: str) -> int:
        """Return the number of subscriptions to a channel at all nodes."""
        return sum(node.pubsub_numsub(channel)[0][1] for node in self._cluster.nodes)

    @property
    def faults(self) -> Sequence[Fault]:
        """The faults that lose no acknowledged event."""
        faults: list[Fault] = [self.fail_over, self.drop_connections, self.kill_replica]
        faults += [self.move_slot] * 2 + [self.migrate_slot]
        if len(self._cluster.nodes) == self._first_nodes:
            faults.append(self.join)
        if self._is_safe:
            faults += [partial(without_loss, loss) for loss in self.losses]
        return faults

    @property
    def losses(self) -> Sequence[Loss]:
        """The faults that lose what a replica lacks."""
        losses = [self.kill_primary, self.suspend_primary, self.take_over_by_force, self.take_over_after_death]
        return [partial(self._lose, loss) for loss in losses]

    def fail_over(self, chance: random.Random) -> str:
        """Let a replica take over in agreement with its primary."""
        _, replica = self._shard(chance)
        self._cluster.nodes[replica].execute_command("CLUSTER", "FAILOVER")
        self._wait_until_primary(replica)
        return f"CLUSTER FAILOVER by node {replica}"

    def kill_primary(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill a primary, and start it again after a while, before its replica takes over or afterwards."""
        primary, replica = self._shard(chance)
        seconds = chance.choice([0.2, 5])
        self._cluster.servers[primary].terminate()
        time.sleep(seconds / 2)
        note_loss()
        time.sleep(seconds / 2)
        self._cluster.servers[primary].start()
        self._wait_until_whole()
        return f"kill primary {primary} for {seconds:.1f} s, with the replica {replica}"

    def kill_replica(self, chance: random.Random) -> str:
        """Kill a replica, and start it again."""
        _, replica = self._shard(chance)
        self._cluster.servers[replica].terminate()
        time.sleep(chance.uniform(0, 2))
        self._cluster.servers[replica].start()
        self._wait_until_whole()
        return f"kill replica {replica}"

    def suspend_primary(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Suspend a primary. If its replica has taken over, it wakes up as a second primary of the same slots."""
        primary, replica = self._shard(chance)
        seconds = chance.uniform(0.5, 7)
        with stopped(self._cluster.servers[primary]):
            time.sleep(seconds)
        self._wait_until_whole()
        note_loss()
        return f"suspend primary {primary} for {seconds:.1f} s, with the replica {replica}"

    def take_over_by_force(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Let a lagging replica take over without the agreement of anybody, while its primary runs."""
        primary, replica = self._shard(chance)
        seconds = chance.uniform(0, 2)
        with lagging(self._cluster.nodes[replica]):
            time.sleep(seconds)
            self._cluster.nodes[replica].execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            self._wait_until_primary(replica)
        note_loss()
        return f"takeover of primary {primary} by node {replica}, which is {seconds:.1f} s behind"

    def take_over_after_death(self, chance: random.Random, note_loss: NoteLoss) -> str:
        """Kill a primary, and let its lagging replica take over."""
        primary, replica = self._shard(chance)
        seconds = chance.uniform(0, 2)
        with lagging(self._cluster.nodes[replica]):
            time.sleep(seconds)
            self._cluster.servers[primary].terminate()
            note_loss()
            self._cluster.nodes[replica].execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
            wait_until(lambda: is_primary(self._cluster.nodes[replica]), "the replica is a primary")
            time.sleep(chance.uniform(0, 2))
            self._cluster.servers[primary].start()
        self._wait_until_whole()
        return f"kill primary {primary}, takeover by node {replica}, which is {seconds:.1f} s behind"

    def move_slot(self, chance: random.Random) -> str:
        """Move a slot key by key."""
        key = chance.choice(KEYS)
        source, target = self._owner(key), self._other_primary(chance, key)
        nodes = self._cluster.nodes
        with moving_slot(nodes[source], nodes[target], key_slot(key.encode())) as steps:
            for _ in steps:
                time.sleep(chance.uniform(0, 0.03))
        return f"move the slot of {key} from node {source} to node {target}"

    def migrate_slot(self, chance: random.Random) -> str:
        """Move a slot at once, as Valkey 9 can."""
        key = chance.choice(KEYS)
        source, target = self._owner(key), self._other_primary(chance, key)
        self._migrate([key], source, target)
        return f"migrate the slot of {key} from node {source} to node {target}"

    def join(self, chance: random.Random) -> str:
        """Let a primary and its replica join, and move slots to it."""
        for _ in range(2):
            server, bus = start_node(self._stack, self._folder, {})
            node = self._stack.enter_context(Redis.from_url(server.connection_url))
            self._cluster.nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
            self._cluster.servers.append(server)
            self._cluster.nodes.append(node)
            self._ports.append(server.port)
        primary, replica = self._cluster.nodes[-2:]
        target = len(self._cluster.nodes) - 2
        identity = node_id(primary)
        wait_until(lambda: all(identity in _known_nodes(node) for node in self._cluster.nodes), "the node is known")
        replica.execute_command("CLUSTER", "REPLICATE", identity)
        wait_until(lambda: has_replica(primary), "the replica follows")
        keys = chance.sample(KEYS, JOINED_SLOTS)
        for key in keys:
            self._migrate([key], self._owner(key), target)
        self._wait_until_whole()
        return f"nodes {target} and {target + 1} join, with the slots of {keys}"

    def drop_connections(self, chance: random.Random) -> str:
        """Close all connections of clients to a node."""
        number = chance.randrange(len(self._cluster.nodes))
        closed = self._cluster.nodes[number].execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return f"drop {closed} connections to node {number}"

    @property
    def _is_safe(self) -> bool:
        """Whether a replica may take over at any time without a loss."""
        return self._durability == "replicated"

    def _lose(self, loss: Loss, chance: random.Random, note_loss: NoteLoss) -> str:
        """Cause a loss. Replicas may take over meanwhile."""
        self._let_fail_over(True)
        description = loss(chance, note_loss)
        self._let_fail_over(self._is_safe)
        return description

    def _let_fail_over(self, allowed: bool) -> None:
        for node in self._cluster.nodes:
            node.config_set("cluster-node-timeout", FAILOVER_MILLISECONDS if allowed else NO_FAILOVER_MILLISECONDS)

    def _migrate(self, keys: Sequence[str], source: int, target: int) -> None:
        ranges = [word for key in keys for word in [key_slot(key.encode())] * 2]
        command = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", node_id(self._cluster.nodes[target]))
        self._cluster.nodes[source].execute_command(*command)
        wait_until(lambda: all(self._owner(key) == target for key in keys), "the slots are moved")

    def _owner(self, key: str) -> int:
        """Return the number of the primary that has a key."""
        with self.client() as client:
            return self._ports.index(client.get_node_from_key(key).port)

    def _other_primary(self, chance: random.Random, key: str) -> int:
        owner = self._owner(key)
        return chance.choice([number for number, _ in self._shards() if number != owner])

    def _shard(self, chance: random.Random) -> tuple[int, int]:
        """Return the numbers of a primary and of its replica."""
        return chance.choice(self._shards())

    def _shards(self) -> list[tuple[int, int]]:
        self._wait_until_whole()
        roles = [node.role() for node in self._cluster.nodes]
        return [
            (number, self._ports.index(int(replicas[0][1])))
            for number, (role, _, replicas, *_) in enumerate(roles)
            if role == b"master" and replicas
        ]

    def _wait_until_primary(self, number: int) -> None:
        wait_until(lambda: is_primary(self._cluster.nodes[number]), "the replica is a primary")
        self._wait_until_whole()

    def _wait_until_whole(self) -> None:
        """Wait until every primary has its replica, and every node knows that all slots are served."""
        nodes = self._cluster.nodes

        def is_whole() -> bool:
            try:
                primaries = [node for node in nodes if is_primary(node)]
                states = [node.execute_command("CLUSTER", "INFO") for node in nodes]
                return (
                    2 * len(primaries) == len(nodes)
                    and all(map(has_replica, primaries))
                    and all(b"cluster_state:ok" in state for state in states)
                )
            except RedisError:
                return False

        wait_until(is_whole, "every primary has a replica")


def _known_nodes(node: Redis) -> str:
    nodes = node.execute_command("CLUSTER", "NODES")
    return str(nodes)


@contextmanager
def cluster_servers(folder: Path, chance: random.Random) -> Iterator[ClusterServers]:
    """Run a cluster until the context ends."""
    with ExitStack() as stack:
        cluster = stack.enter_context(redis_cluster(folder=folder))
        yield ClusterServers(cluster, chance.choice(DURABILITIES), folder, stack)
