"""The audit trail as people ask for it: by HTTP and on the command line, with PostgreSQL there, away and back."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import psycopg
import pytest
from redis import Redis

from domain.streams import log_of
from infra.archive.database import Database
from infra.archive.verification import record_verification, verify
from tests import servers
from tests.processes.api_service import api, detection, post
from tests.processes.roles import running, tickview, wait_until

DETECTED_AT = 1_790_000_000.0
PATTERN_ID = "AAPL:Weekly_Breakout:daily:1790000000000"


def update(symbol: str, detected_at: float, **fields: Any) -> dict[str, Any]:
    """A change of what ``detection`` announces."""
    data = {"symbol": symbol, "pattern": "Weekly_Breakout", "detected_at": detected_at, **fields}
    return {"event_type": "pattern_updated", "source": "tests", "timestamp": detected_at + 60, "data": data}


def progress(job: str, done: float) -> dict[str, Any]:
    return {"event_type": "backtest_progress", "source": "tests", "job_id": job, "progress": done, "flow_id": "flow-7"}


@contextmanager
def whole_service(redis_url: str, dsn: str, **settings: Any) -> Iterator[httpx.Client]:
    """Every role that keeps and tells the past."""
    with ExitStack() as stack:
        for role in ("archive", "project", "record"):
            stack.enter_context(running(role, redis_url=redis_url, postgres_dsn=dsn, lease_seconds=0.5))
        yield stack.enter_context(api(redis_url, postgres_dsn=dsn, wait_seconds=30, **settings))


def events(client: httpx.Client, path: str = "events", **parameters: Any) -> list[dict[str, Any]]:
    """All pages."""
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = client.get(f"/api/audit/{path}", params={**parameters, **cursor})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["events"]
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


def wait_until_archived(client: httpx.Client) -> None:
    def is_archived() -> bool:
        archive = client.get("/api/health").json()["components"]["archive"]
        return bool(archive) and all(log["lag_events"] == 0 for log in archive["logs"].values())

    wait_until(is_archived, "all is archived")


def metric(client: httpx.Client, name: str) -> float | None:
    """The value of one metric."""
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), None)


def ask(*arguments: str, redis_url: str, dsn: str) -> Any:
    done = tickview(*arguments, "--json", redis_url=redis_url, postgres_dsn=dsn)
    assert done.returncode == 0, done.stderr
    return orjson.loads(done.stdout)


@pytest.fixture
def client(redis_url: str, database_url: str) -> Iterator[httpx.Client]:
    with whole_service(redis_url, database_url) as client:
        yield client


def test_history_of_streams_patterns_and_jobs(client: httpx.Client, redis_url: str, database_url: str) -> None:
    now = float(int(time.time()))
    messages = [
        detection("X:BTCUSD", timestamp=now),
        detection("X:BTCUSD", timestamp=now, source="intraday"),
        update("X:BTCUSD", now, confidence=0.9),
        update("X:BTCUSD", now, confidence=0.7, tier="intraday"),
        detection("MSFT"),
        *(progress("job-1", done / 4) for done in range(2)),
        {**progress("job-1", 0.5), "status": "in [/b]"},
    ]
    header = post(client, messages)
    wait_until_archived(client)

    stream = events(client, "streams/symbol-X:BTCUSD", limit=2)
    assert [event["version"] for event in stream] == [1, 2, 3, 4]
    assert [event["type"] for event in stream] == ["PatternDetected"] * 2 + ["PatternUpdated"] * 2
    assert ask("history", "symbol-X:BTCUSD", redis_url=redis_url, dsn=database_url) == {"events": stream, "more": False}
    cut = ask("history", "symbol-X:BTCUSD", "--limit", "3", redis_url=redis_url, dsn=database_url)
    assert cut == {"events": stream[:3], "more": True}
    assert client.get("/api/audit/streams/symbol-NONE").status_code == 404
    assert client.get("/api/audit/streams/symbol-X:BTCUSD", params={"to": "2001-01-01"}).json()["events"] == []

    identity = f"X:BTCUSD:Weekly_Breakout:daily:{round(now * 1000)}"
    told = client.get(f"/api/patterns/{identity}", headers=header).json()
    assert told["events"] == stream[:1] + stream[2:3], "what names another tier does not belong, what names none does"
    assert told["provenance"]["position"] == told["events"][-1]["position"]
    assert told["provenance"]["event_id"] == told["events"][-1]["event_id"]
    assert ask("history", identity, redis_url=redis_url, dsn=database_url)["events"] == told["events"]
    shown = client.get("/api/patterns/scan", params={"symbols": "X:BTCUSD", "fields": "full"}, headers=header).json()
    places = {row["id"]: row["position"] for row in shown["patterns"]}
    assert places[identity] == f"{stream[2]['log']}={stream[2]['position']}"

    run = client.get("/api/backtests/job-1", headers=header)
    jobs = run.json()["events"]
    assert [event["data"]["progress"] for event in jobs] == [0.0, 0.25, 0.5]
    assert run.json()["backtest"]["position"] == f"{jobs[-1]['log']}={jobs[-1]['position']}"
    assert client.get("/api/backtests/job-1", headers={"If-None-Match": run.headers["ETag"]}).status_code == 304
    assert ask("history", "job-1", redis_url=redis_url, dsn=database_url)["events"] == jobs
    table = tickview("history", "job-1", redis_url=redis_url, postgres_dsn=database_url).stdout.decode()
    assert "BacktestProgressed" in table
    assert "progress=0.5 status=in [/b]" in table

    nothing = tickview("history", "job-2", redis_url=redis_url, postgres_dsn=database_url)
    assert (nothing.returncode, nothing.stdout) == (1, b"")
    assert nothing.stderr == b"tickview: there are no events of stream backtest-job-2\n"


def test_an_event_is_told_whole_and_found_by_everything_it_carries(client: httpx.Client, database_url: str) -> None:
    before = time.time()
    post(client, [detection("AAPL"), progress("job-1", 0.5), detection("MSFT")])
    wait_until_archived(client)
    every = events(client)
    assert {event["stream"] for event in every} == {"symbol-AAPL", "backtest-job-1", "symbol-MSFT"}
    assert every == sorted(every, key=lambda event: (event["recorded_at"], event["log"], event["position"]))
    [event] = events(client, stream="backtest-job-1")
    with psycopg.connect(database_url) as connection:
        [[state, hash_]] = connection.execute(
            "SELECT state, hash FROM tickview.events WHERE stream = 'backtest-job-1'"
        ).fetchall()
    assert event["data"] == orjson.loads(state)
    assert event["hash"] == hash_.hex()
    assert (event["source"], event["correlation_id"], event["version"]) == ("tests", "flow-7", 1)
    assert event["origin"] == {"via": "http", "dead_letter": None}
    assert before - 1 < event["recorded_at"] < time.time() + 1
    assert before - 1 < event["occurred_at"] < time.time() + 1
    assert event["data_base64"] is None
    for parameters in (
        {"type": "BacktestProgressed"},
        {"event_id": event["event_id"]},
        {"correlation": "flow-7"},
        {"log": event["log"], "from": event["position"], "to": event["position"], "stream": event["stream"]},
        {"source": "tests", "stream": "backtest-job-1"},
    ):
        assert events(client, **parameters) == [event], parameters
    assert events(client, source="nobody") == []
    assert events(client, limit=1) == every
    assert events(client, **{"from": "2001-01-01", "to": "2001-01-02T00:00:00Z"}) == []
    assert events(client, **{"from": "2001-01-01"}) == every


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("events", {"from": "yesterday"}, "from should be a position (up to 15 digits) or a time: "),
    ("events", {"from": 7, "to": 3}, "to should not be before from"),
    ("events", {"from": "2026-01-02", "to": "2026-01-01"}, "to should not be before from"),
    ("events", {"from": "2026-13-01"}, "from should be a position (up to 15 digits) or a time: month must be in 1..12"),
    ("events", {"to": ["1", "2"]}, "to is given 2 times; give it once"),
    ("events", {"limit": 101}, "limit should be less than or equal to 100"),
    ("events", {"cursor": "WzFd"}, "cursor is no cursor of ours"),
    ("events", {"from_": 1}, "from_ is not a parameter here; known: from, to, limit, cursor, stream"),
    ("streams/symbol-AAPL", {"type": "x"}, "type is not a parameter here; known: from, to, limit, cursor"),
]


def test_what_cannot_be_asked_is_refused(redis_url: str, database_url: str) -> None:
    with api(redis_url, postgres_dsn=database_url) as client:
        for path, parameters, reason in REFUSED:
            answer = client.get(f"/api/audit/{path}", params=parameters)
            assert answer.status_code == 400, reason
            assert answer.json()["detail"].startswith(reason)


def test_what_came_from_a_dead_letter_names_it(client: httpx.Client) -> None:
    good, bad = detection("AAPL")["data"], {**detection("MSFT")["data"], "confidence": 7}
    batch = {"event_type": "patterns_batch", "source": "tests", "patterns": [good, bad]}
    partly = client.post("/api/events", json=[batch])
    assert partly.status_code == 207
    letter = partly.json()["refused"][0]["dead_letter"]
    [first] = events(client, stream="symbol-AAPL")
    assert first["origin"] == {"via": "http", "dead_letter": letter}
    again = client.post(f"/api/dead-letters/{letter}/retry")
    assert again.status_code == 207, "MSFT's is as wrong as before"
    [known] = events(client, stream="symbol-AAPL")
    assert known["event_id"] == first["event_id"], "what was recorded before is not recorded again"


def test_what_a_retry_records_names_it_and_the_letter(redis: Redis, redis_url: str, database_url: str) -> None:
    large = orjson.dumps(detection("AAPL", note="x" * 2_000))
    with api(redis_url, postgres_dsn=database_url) as client:
        with running("record", redis_url=redis_url, postgres_dsn=database_url, max_message_bytes=1_024):
            redis.xadd("tickstock.ingest", {"channel": "tickstock.events.patterns", "payload": large})
            [letter] = wait_until(lambda: client.get("/api/dead-letters").json()["dead_letters"], "it is too large")
        again = client.post(f"/api/dead-letters/{letter['id']}/retry")
        assert again.status_code == 201, again.text
        [event] = events(client, stream="symbol-AAPL")
        assert event["origin"] == {"via": "retry", "dead_letter": letter["id"]}
        assert event["hash"] is None, "nobody archives"


def test_without_an_archive_the_past_cannot_be_asked(redis_url: str) -> None:
    with running("project", redis_url=redis_url), api(redis_url, wait_seconds=30) as client:
        known = post(client, [detection("AAPL", timestamp=DETECTED_AT)])
        answer = client.get("/api/audit/events")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tickview:problem:no-archive")
        assert "TICKVIEW_POSTGRES_DSN" in answer.json()["detail"]
        one = client.get(f"/api/patterns/{PATTERN_ID}", headers=known)
        assert (one.status_code, one.json()["events"]) == (200, None)
        components = client.get("/api/health").json()["components"]
        assert (components["archive"], components["servers"].keys()) == (None, {"redis"})
        assert metric(client, "tickview_archive_up") is None
    told = tickview("history", "symbol-AAPL", redis_url=redis_url)
    assert (told.returncode, told.stderr.count(b"\n")) == (1, 1)
    assert b"no PostgreSQL" in told.stderr
    assert orjson.loads(tickview("status", "--json", redis_url=redis_url).stdout)["archive"] is None


def test_health_metrics_and_status_tell_how_the_archive_stands(redis_url: str, database: Database) -> None:
    def status() -> Any:
        return ask("status", redis_url=redis_url, dsn=database.dsn)["archive"]

    log = log_of("symbol-AAPL", 4)
    settings = {"redis_url": redis_url, "postgres_dsn": database.dsn}
    with running("project", **settings), api(**settings) as client:
        post(client, [detection("AAPL")])
        assert metric(client, f'tickview_archive_lag_events{{log="{log}"}}') == 1
        assert (metric(client, f'tickview_archive_lag_seconds{{log="{log}"}}') or 0) > 0
        assert metric(client, "tickview_archive_verified_events") is None
        with running("archive", verify_every=0, **settings):
            wait_until_archived(client)
            [told] = [one for one in status()["logs"] if one["log"] == log]
            assert (told["position"], told["head"], told["lag_events"], told["first"]) == (1, 1, 0, 1)
            assert (told["epoch"], told["error"]) == (1, None)
            assert told["owner"]
        assert metric(client, f'tickview_archive_position{{log="{log}"}}') == 1
        record_verification(database, verify(database))
        assert client.get("/api/health").json()["status"] == "healthy"
        assert client.get("/api/audit/verification").json()["verification"]["ok"] is True
        assert metric(client, f'tickview_archive_misfits{{log="{log}"}}') == 0

        with database.connection() as connection:
            connection.execute("UPDATE tickview.events SET source = 'nobody'")
            connection.execute(
                "INSERT INTO tickview.losses (log, epoch, found, restored, seen, rebuilt) "
                "VALUES (%s, 2, 3, 5, 6, 'patterns')",
                [log],
            )
            connection.execute(
                "UPDATE tickview.segments SET error = 'the disk is full' WHERE name = 'archive' AND log = %s", [log]
            )
        record_verification(database, verify(database))
        health = client.get("/api/health").json()
        assert (health["status"], health["components"]["archive"]["status"]) == ("degraded", "degraded")
        assert health["components"]["archive"]["reasons"] == [
            f"{log} is held up: the disk is full",
            f"event 1 of {log} does not fit its chain: it is changed",
        ]
        verification = client.get("/api/audit/verification").json()["verification"]
        [verified] = [one for one in verification["logs"] if one["log"] == log]
        assert (verification["ok"], verified["misfit"]["kind"]) == (False, "changed")
        assert metric(client, f'tickview_archive_misfits{{log="{log}"}}') == 1
        verified_at = metric(client, "tickview_archive_verified_timestamp_seconds")
        assert verified_at == verification["finished_at"]
        [loss] = status()["losses"]
        assert (loss["found"], loss["restored"], loss["seen"], loss["rebuilt"]) == (3, 5, 6, ["patterns"])
        printed = tickview("status", **settings).stdout.decode()
        assert f"{log} came back at 3, 3 events short of 6" in printed
        assert "the disk is full" in printed
        with running("archive", verify_every=0, lease_seconds=0.5, **settings):
            wait_until(lambda: not any(one["error"] for one in status()["logs"]), "nothing holds it up any more")


def test_while_postgresql_is_away_only_the_past_cannot_be_asked(redis_url: str) -> None:
    with servers.reachable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            client = stack.enter_context(whole_service(redis_url, dsn, api_processes=1))
            known = post(client, [detection("AAPL", timestamp=DETECTED_AT), progress("job-1", 0.5)])
            wait_until_archived(client)
            told = events(client)
            assert client.get("/api/health").json()["components"]["servers"]["postgres"]["status"] == "healthy"
            assert metric(client, "tickview_archive_up") == 1
        for path in ("events", "streams/symbol-AAPL", "verification"):
            answer = client.get(f"/api/audit/{path}")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1"), path
            assert answer.json()["type"] == "urn:tickview:problem:unavailable"
            assert "PostgreSQL" in answer.json()["detail"]
            assert str(folder) not in answer.text
        assert client.get(f"/api/patterns/{PATTERN_ID}", headers=known).json()["events"] is None
        assert client.get("/api/backtests/job-1", headers=known).json()["events"] is None
        more = post(client, [detection("MSFT")])
        assert client.get("/api/patterns/scan", headers=more).json()["pagination"]["total"] == 2
        health = client.get("/api/health")
        components = health.json()["components"]
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert components["servers"]["postgres"]["reasons"] == ["does not answer"]
        assert (components["servers"]["postgres"]["status"], components["archive"]) == ("degraded", None)
        assert components["read_models"]["patterns"]["status"] == "healthy"
        assert metric(client, "tickview_archive_up") == 0
        assert metric(client, 'tickview_archive_position{log="users"}') is None
        told_by_cli = tickview("history", "symbol-AAPL", redis_url=redis_url, postgres_dsn=dsn)
        assert (told_by_cli.returncode, told_by_cli.stderr.count(b"\n")) == (1, 1)
        assert b"PostgreSQL does not serve us" in told_by_cli.stderr
        status = orjson.loads(tickview("status", "--json", redis_url=redis_url, postgres_dsn=dsn).stdout)
        assert "PostgreSQL" in status["archive"]["error"]
        with servers.postgres(data=folder):
            wait_until(lambda: client.get("/api/audit/events").status_code == 200, "the past can be asked again")
            wait_until_archived(client)
            found = events(client)
            assert (found[:2], len(found)) == (told, 3)
            health = client.get("/api/health").json()
            assert health["status"] == "healthy", health


def test_a_postgresql_that_hangs_holds_up_nobody(redis_url: str) -> None:
    """It takes connections, and answers nothing."""
    with servers.postgres() as dsn, whole_service(redis_url, dsn, api_processes=1) as client:
        known = post(client, [detection("AAPL", timestamp=DETECTED_AT)])
        wait_until_archived(client)
        with standing_still(dsn):
            health = client.get("/api/health").json()
            assert (health["status"], health["components"]["servers"]["postgres"]["status"]) == ("degraded",) * 2
            answers = [client.get("/api/audit/events") for _ in range(20)]
            assert {answer.status_code for answer in answers} == {503}
            one = client.get(f"/api/patterns/{PATTERN_ID}", headers=known)
            assert (one.status_code, one.json()["events"]) == (200, None)
            assert metric(client, "tickview_archive_up") == 0
        wait_until(lambda: client.get("/api/audit/events").status_code == 200, "the past can be asked again")
        wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "it is well again")


@contextmanager
def standing_still(dsn: str) -> Iterator[None]:
    """All processes of a server stand still as long as the context lasts."""
    with psycopg.connect(dsn) as connection:
        [[folder]] = connection.execute("SHOW data_directory").fetchall()
    postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    family = [postmaster, *postmaster.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            if process.is_running():
                process.resume()
