"""All roles on a Redis Cluster of three primaries with replicas, from the message of a producer to the answers."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
from eventsourcing.persistence import StoredEvent, Tracking
from redis import Redis

from domain.wire import PATTERNS
from infra.eventlog.factory import RedisFactory
from infra.log.event_log import EventLog
from infra.redis import functions
from tests import servers
from tests.clusters import STEADY, Cluster, redis_cluster
from tests.events import opaque_event
from tests.integration.alert_support import Receiver, wait_for_requests
from tests.processes.api_service import api, detection, post, read_model_state, scan_source
from tests.processes.archiving_service import audit_events, wait_until_archived
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import running_role, tickview, tickview_json, wait_until
from tests.processes.test_alerts import alerters
from tests.processes.test_health import wait_for_health
from tests.processes.test_push import receive_symbols
from tests.processes.workspace_users import PRESETS, User
from tests.redis_traffic import monitored, walk

SYMBOLS = [f"S{number}" for number in range(24)]
"""Symbols whose streams are in all partitions of the market log."""

WAYS = {"http": SYMBOLS[:8], "stream": SYMBOLS[8:16], "pubsub": SYMBOLS[16:]}
"""Way by which a symbol is announced -> symbols."""

FUNCTIONS = {file.stem for file in Path(functions.__file__).parent.glob("*.lua")}
"""The names of all server-side functions."""

CATALOGUE = "symbol,name,sector\n" + "\n".join(f"{symbol},Company,Energy" for symbol in SYMBOLS[:4])


ALERTED = {"S1", "S9", "S17"}
"""Symbols of an alert, one of each way."""

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
"""The page that names the rights of the Redis user."""


def documented_rights() -> list[str]:
    """Return the rights of the Redis user that the documentation names, as words of ``ACL SETUSER``."""
    [rules] = re.findall(r"^ACL SETUSER tickview on >password (.*)$", SECURITY.read_text(), re.MULTILINE)
    return str(rules).split()


@contextmanager
def restricted_cluster() -> Iterator[tuple[Cluster, str]]:
    """Run a cluster with a user that has the documented rights alone. Yield it, and the URL with the user."""
    with redis_cluster(**STEADY) as cluster:
        for node in cluster.nodes:
            node.execute_command("ACL", "SETUSER", "tickview", "on", ">password", *documented_rights())
        yield cluster, cluster.url.replace("://", "://tickview:password@")


@contextmanager
def running_service(redis_url: str, dsn: str) -> Iterator[tuple[httpx.Client, Receiver]]:
    """Run all roles, with an alert that is set. Yield a client of the API, and the receiver of the alert."""
    settings: dict[str, Any] = {"redis_url": redis_url, "postgres_dsn": dsn, "lease_seconds": 2}
    settings |= {"alert_private_addresses": True}
    with ExitStack() as stack:
        for role in ("archive", "project", "record"):
            stack.enter_context(running_role(role, **settings))
        client = stack.enter_context(api(wait_seconds=30, **settings))
        receiver = stack.enter_context(Receiver())
        preset = User(client, "alice").create_preset("Alerted", symbols=sorted(ALERTED))
        body, headers = {"webhook": receiver.url}, {"X-User-ID": "alice"}
        alert = client.put(f"{PRESETS}/{preset}/alert", json=body, headers=headers)
        assert alert.status_code == 201, alert.text
        stack.enter_context(running_role("alert", **settings))
        wait_until(lambda: alerters(client) == 1, "the alerter runs")
        yield client, receiver


def scanned(client: httpx.Client, **parameters: Any) -> set[str]:
    response = client.get("/api/patterns/scan", params={"per_page": 100, **parameters})
    assert response.status_code == 200, response.text
    return {row["symbol"] for row in response.json()["patterns"]}


def publish(redis_url: str, way: str, symbols: list[str]) -> None:
    messages = [{"channel": PATTERNS, "payload": detection(symbol)} for symbol in symbols]
    sent = tickview("publish", "-", "--via", way, redis_url=redis_url, stdin=b"\n".join(map(orjson.dumps, messages)))
    assert sent.returncode == 0, (sent.stdout, sent.stderr)


def announce(client: httpx.Client, redis_url: str) -> None:
    """Announce patterns by every way, and receive all of them by live push."""
    with websocket(client, "/ws/patterns") as connection:
        assert receive(connection)["type"] == "ready"
        post(client, [detection(symbol) for symbol in WAYS["http"]])
        for way in ("stream", "pubsub"):
            publish(redis_url, way, WAYS[way])
        receive_symbols(connection, *SYMBOLS)
    # The process that answers a scan may apply a change a moment after the one that pushed it.
    wait_until(lambda: scanned(client) == set(SYMBOLS), "the scan has all symbols")
    assert scan_source(client) == "replica"
    refused = client.post("/api/events", json=detection("REFUSED", confidence=7))
    letter = refused.json()["refused"][0]["dead_letter"]
    assert client.post(f"/api/dead-letters/{letter}/retry").status_code == 422
    assert client.delete(f"/api/dead-letters/{letter}").status_code == 204


def use_lists_and_catalogue(client: httpx.Client, redis_url: str, folder: Path) -> None:
    """Create a list of a user, by which scans are filtered, and synchronize a catalogue."""
    user = User(client, "alice")
    watchlist = user.create_watchlist("Mine", "S1", "S2")
    assert sorted(user.scan_symbols(f"watchlist={watchlist}")) == ["S1", "S2"]
    symbols = folder / "symbols.csv"
    symbols.write_text(CATALOGUE)
    sync = ("catalogue", "sync", "--symbols", str(symbols))
    position = tickview_json(*sync, redis_url=redis_url, wait_seconds=30)["position"]
    listed = client.get("/api/symbols", headers={"TickView-Min-Position": position}).json()["symbols"]
    assert {symbol["symbol"] for symbol in listed} == set(SYMBOLS[:4])


def read_the_past(client: httpx.Client) -> None:
    """Read the archive: the history of a stream, and the scan as of a moment."""
    wait_until_archived(client)
    moment = time.time()
    post(client, [detection("LATER")])
    assert [event["stream"] for event in audit_events(client, "streams/symbol-S9")] == ["symbol-S9"]
    assert scanned(client, as_of=moment) == set(SYMBOLS)
    wait_until(lambda: scanned(client) == {*SYMBOLS, "LATER"}, "the later pattern is folded")


def replay(client: httpx.Client, redis_url: str, dsn: str) -> None:
    """Build a read model again, compare it, switch to it, and switch back."""
    replayed = tickview_json("replay", "patterns", "--verify", redis_url=redis_url, postgres_dsn=dsn)
    assert (replayed["live"], replayed["differences"]) == (True, 0)
    wait_until(
        lambda: read_model_state(client, "patterns")["live"] == replayed["build"], "the new build is live in the API"
    )
    assert scanned(client) == {*SYMBOLS, "LATER"}
    tickview_json("rollback", "patterns", redis_url=redis_url, postgres_dsn=dsn)
    assert scanned(client) == {*SYMBOLS, "LATER"}


def query_redis(redis_url: str) -> None:
    """Answer queries from the indexes in Redis."""
    with api(redis_url, replica_max_rows=0, api_processes=1) as client:
        wait_until(lambda: scanned(client, symbols="S1,S2") == {"S1", "S2"}, "Redis answers")
        assert scan_source(client) == "redis"
        assert client.get("/api/patterns/stats").json()["statistics"]["total"] == len(SYMBOLS) + 1


def check_operations(client: httpx.Client, redis_url: str, dsn: str) -> None:
    """Check the health, and the output of the commands of operators."""
    wait_for_health(client)
    settings = {"redis_url": redis_url, "postgres_dsn": dsn}
    status = tickview_json("status", **settings)
    assert status["status"] == "healthy", status
    counts = status["intake"]["counts"]
    recorded = {way: counts[f"{way}.recorded"] for way in ("stream", "pubsub")}
    assert recorded == {way: len(WAYS[way]) for way in recorded}
    assert tickview("audit", "verify", **settings).returncode == 0
    assert tickview("users", "forget", "alice", "--yes", **settings).returncode == 0
    assert tickview_json("dead-letters", "list", **settings)["dead_letters"] == []
    assert tickview_json("history", "symbol-S9", **settings)


def raise_partitions(client: httpx.Client, redis_url: str, dsn: str) -> None:
    """Raise the number of partitions, and read patterns of new symbols, which are in all partitions."""
    raised = tickview_json("partitions", "raise", "7", redis_url=redis_url, postgres_dsn=dsn)
    assert [log["sealed"] for log in raised["logs"]] == ["4-7"] * 7
    symbols = [f"NEW{number}" for number in range(24)]
    headers = post(client, [detection(symbol) for symbol in [*symbols, *SYMBOLS[:4]]])
    assert "market-6=" in headers["TickView-Min-Position"]
    response = client.get("/api/patterns/scan", params={"symbols": ",".join(symbols)}, headers=headers)
    assert response.json()["pagination"]["total"] == len(symbols)


def use_library(redis_url: str) -> None:
    """Use the log as the persistence module of the library ``eventsourcing``, with large events."""
    factory = RedisFactory({"TICKVIEW_REDIS_URL": redis_url, "ORIGINATOR_ID_TYPE": "text"})
    try:
        snapshot = StoredEvent("stream", 1, "topic", b"{}")
        factory.aggregate_recorder("snapshots").insert_events([snapshot])
        factory.tracking_recorder().insert_tracking(Tracking("other", 1))
        log = EventLog(factory.client, "library")
        log.append([opaque_event()._replace(state=b"x" * 10_000)])
        assert [entry.position for entry in log.wait(0, 10, timeout=0)] == [1]
    finally:
        factory.close()


def errors_of(node: Redis) -> set[str]:
    return {name.removeprefix("errorstat_") for name in node.info("errorstats")}


def test_every_role_works_on_a_cluster_and_no_command_leaves_its_slot(postgres_18_dsn: str, tmp_path: Path) -> None:
    """The roles have the documented rights alone."""
    with (
        restricted_cluster() as (cluster, url),
        servers.new_database(postgres_18_dsn, servers.TEMPLATE) as dsn,
        monitored(cluster.primaries) as traffic,
    ):
        with running_service(url, dsn) as (client, receiver):
            wait_for_health(client)
            announce(client, url)
            wait_for_requests(receiver, len(ALERTED))
            assert set(receiver.symbols()) == ALERTED
            use_lists_and_catalogue(client, url, tmp_path)
            read_the_past(client)
            replay(client, url, dsn)
            query_redis(url)
            check_operations(client, url, dsn)
            raise_partitions(client, url, dsn)
        use_library(url)
        for node in cluster.primaries:
            assert node.dbsize() > 0
            assert not errors_of(node) & {"CROSSSLOT", "MOVED", "ASK", "NOPERM"}
        counts = sum(map(walk, traffic), start=Counter[str]())
        assert counts.keys() >= FUNCTIONS
        assert {"XREAD", "XREADGROUP", "PUBLISH", "WAITAOF", "EXEC", "HSCAN"} <= counts.keys()


def test_a_role_refuses_a_url_of_the_wrong_kind(redis_url: str) -> None:
    address = redis_url.removeprefix("redis://")
    with redis_cluster(1, with_replicas=False) as cluster:
        node_url = cluster.servers[0].connection_url
        for url, reason in {
            node_url: "is a node of a cluster: let TICKVIEW_REDIS_URL begin with redis+cluster://",
            f"redis+cluster://{address}": "Cluster mode is not enabled on this node",
            f"redis+sentinel://{address}/service": "unknown command 'SENTINEL'",
        }.items():
            refused = tickview("record", redis_url=url)
            assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1), refused.stderr
            assert reason in refused.stderr.decode()
