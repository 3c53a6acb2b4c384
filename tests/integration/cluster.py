"""A Redis Cluster of real servers."""

from collections.abc import Sequence

from redis import Redis

from tests.processes.roles import wait_until


def cluster_node(bus_port: int) -> dict[str, object]:
    """Return the settings of a node that remains a primary when it loses its last slot."""
    return {"cluster-enabled": "yes", "cluster-port": bus_port, "cluster-allow-replica-migration": "no"}


def form_cluster(nodes: Sequence[Redis], ports: Sequence[int], bus_ports: Sequence[int]) -> None:
    """Let the nodes meet, and give all slots to the first node. Wait until every node knows the cluster."""
    first = nodes[0]
    first.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
    for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
        first.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
    wait_until(lambda: all(_knows_cluster(node, len(nodes)) for node in nodes), "every node knows the cluster")


def _knows_cluster(node: Redis, nodes: int) -> bool:
    information: bytes = node.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in information and f"cluster_known_nodes:{nodes}".encode() in information
