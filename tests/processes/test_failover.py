"""A planned failover: the former primary lives on as a replica, and the address leads to the new primary."""

from pathlib import Path

from redis import Redis

from domain.wire import INGEST_STREAM, PATTERNS
from infra.redis.connections import connect
from tests import servers
from tests.processes.api_service import api, post
from tests.processes.api_service import detection as announcement
from tests.processes.roles import running_role, wait_until
from tests.processes.test_health import wait_for_health
from tests.processes.test_recorder import detection, payload_of, recorded_ids, subscribers
from tests.tcp_proxy import TcpProxy


def is_in_sync(replica: Redis) -> bool:
    return replica.info("replication").get("master_link_status") == "up"


def fail_over(primary: Redis, replica: Redis, replica_port: int) -> None:
    """Let the replica take over, and the former primary follow it."""
    primary.wait(1, 10_000)
    replica.replicaof("NO", "ONE")
    primary.replicaof("127.0.0.1", str(replica_port))


def test_all_roles_move_to_the_new_primary(tmp_path: Path) -> None:
    with (
        servers.valkey(tmp_path / "first") as first,
        servers.valkey(tmp_path / "second") as second,
        connect(first.connection_url) as primary,
        connect(second.connection_url) as replica,
        TcpProxy(first.port) as proxy,
    ):
        replica.replicaof("127.0.0.1", str(first.port))
        wait_until(lambda: is_in_sync(replica), "the replica is in sync")
        redis_url = f"redis://127.0.0.1:{proxy.port}"
        with (
            running_role("record", redis_url=redis_url),
            running_role("project", redis_url=redis_url, lease_seconds=2),
            api(redis_url, wait_seconds=30) as client,
        ):
            post(client, [announcement("BEFORE")])
            wait_for_health(client)
            proxy.server_port = second.port
            fail_over(primary, replica, second.port)
            wait_until(
                lambda: client.post("/api/events", json=announcement("AFTER")).status_code == 201,
                "the API records on the new primary",
            )
            wait_until(lambda: subscribers(replica) == 1, "the recorder listens to the new primary")
            replica.publish(PATTERNS, payload_of(detection(1)))
            replica.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": payload_of(detection(2))})
            wait_until(lambda: len(recorded_ids(replica)) == 4, "every way in records on the new primary")

            def scanned() -> set[str]:
                rows = client.get("/api/patterns/scan", params={"per_page": 100}).json()["patterns"]
                return {row["symbol"] for row in rows}

            wait_until(lambda: scanned() == {"BEFORE", "AFTER", "S1", "S2"}, "the events of both primaries are folded")
            wait_for_health(client)
