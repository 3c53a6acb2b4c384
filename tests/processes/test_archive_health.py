"""The archive in health, metrics and status on real processes: absent, behind, blocked, damaged, offline."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from domain.streams import log_of
from infra.archive.verification.verify import record_verification, verify
from infra.postgres.database import Database
from tests import servers
from tests.operations_page import documented_metrics
from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import (
    DETECTED_AT,
    PATTERN_ID,
    archiving_service,
    audit_events,
    backtest_progress,
    metric,
    wait_until_archived,
)
from tests.processes.roles import running_role, tickview, tickview_json, wait_until


def test_without_an_archive_the_audit_api_answers_503(redis_url: str) -> None:
    with running_role("project", redis_url=redis_url), api(redis_url, wait_seconds=30) as client:
        header = post(client, [detection("AAPL", timestamp=DETECTED_AT)])
        audit = client.get("/api/audit/events")
        assert (audit.status_code, audit.json()["type"]) == (503, "urn:tickview:problem:no-archive")
        assert "TICKVIEW_POSTGRES_DSN" in audit.json()["detail"]
        pattern = client.get(f"/api/patterns/{PATTERN_ID}", headers=header)
        assert (pattern.status_code, pattern.json()["events"]) == (200, None)
        components = client.get("/api/health").json()
        assert (components["archive"], components["servers"].keys()) == (None, {"redis"})
        assert metric(client, "tickview_archive_up") is None
    history = tickview("history", "symbol-AAPL", redis_url=redis_url)
    assert (history.returncode, history.stderr.count(b"\n")) == (1, 1)
    assert b"no PostgreSQL" in history.stderr
    assert tickview_json("status", redis_url=redis_url)["archive"] is None


def history_rows(database: Database) -> int:
    with database.connection() as connection:
        [[rows]] = connection.execute("SELECT count(*) FROM tickview.pattern_history")
    return int(rows)


def test_health_metrics_and_status_describe_the_archive(redis_url: str, database: Database) -> None:
    def status() -> Any:
        return tickview_json("status", redis_url=redis_url, postgres_dsn=database.dsn)["archive"]

    log = log_of("symbol-AAPL", 4)
    settings = {"redis_url": redis_url, "postgres_dsn": database.dsn}
    with running_role("project", **settings), api(**settings) as client:
        post(client, [detection("AAPL")])
        assert metric(client, f'tickview_archive_lag_events{{log="{log}"}}') == 1
        assert (metric(client, f'tickview_archive_lag_seconds{{log="{log}"}}') or 0) > 0
        assert metric(client, "tickview_archive_verified_events") is None
        with running_role("archive", verify_every=0, **settings):
            wait_until_archived(client)
            [state] = [state for state in status()["logs"] if state["log"] == log]
            assert (state["position"], state["head"], state["lag_events"], state["first"]) == (1, 1, 0, 1)
            assert (state["epoch"], state["error"]) == (1, None)
            assert state["owner"]
            wait_until(lambda: history_rows(database), "the history is folded")
        assert metric(client, f'tickview_archive_position{{log="{log}"}}') == 1
        record_verification(database, verify(database))
        health = client.get("/api/health").json()
        assert (health["archive"]["status"], health["verification"]["status"]) == ("healthy", "healthy")
        assert client.get("/api/audit/verification").json()["verification"]["ok"] is True
        assert metric(client, f'tickview_archive_misfits{{log="{log}"}}') == 0
        exported = re.findall(r"^(tickview_\w+?)(?:\{| )", client.get("/metrics").text, re.MULTILINE)
        assert set(exported) <= documented_metrics().keys()

        with database.connection() as connection:
            connection.execute("UPDATE tickview.pattern_history SET number_confidence = 0.99")
        assert tickview("audit", "verify", **settings).returncode == 3
        health = client.get("/api/health").json()
        assert (health["status"], health["verification"]["ok"]) == ("degraded", False)
        [difference] = health["verification"]["reasons"]
        assert "of pattern_history does not follow from the events: it is changed" in difference
        assert "tickview audit rebuild pattern_history" in difference
        assert metric(client, f'tickview_history_misfits{{history="pattern_history",log="{log}"}}') == 1
        assert f"verification: {difference}" in tickview("status", **settings).stdout.decode()

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
        assert (health["status"], health["archive"]["status"]) == ("degraded", "degraded")
        assert health["archive"]["reasons"] == [f"the archiving of {log} is blocked: the disk is full"]
        assert (health["verification"]["status"], health["verification"]["ok"]) == ("degraded", False)
        misfit = f"event 1 of {log} does not match the hash chain: it is changed"
        assert health["verification"]["reasons"] == [misfit]
        verification = client.get("/api/audit/verification").json()["verification"]
        [result] = [result for result in verification["logs"] if result["log"] == log]
        assert (verification["ok"], result["misfit"]["kind"]) == (False, "changed")
        assert metric(client, f'tickview_archive_misfits{{log="{log}"}}') == 1
        verified_at = metric(client, "tickview_archive_verified_timestamp_seconds")
        assert verified_at == verification["finished_at"]
        [loss] = status()["losses"]
        assert (loss["found"], loss["restored"], loss["seen"], loss["rebuilt"]) == (3, 5, 6, ["patterns"])
        printed = tickview("status", **settings).stdout.decode()
        assert f"{log} came back at 3, 3 events short of 6" in printed
        assert "the disk is full" in printed
        assert f"verification: {misfit}" in printed
        with running_role("archive", verify_every=0, lease_seconds=0.5, **settings):
            wait_until(lambda: not any(state["error"] for state in status()["logs"]), "no archiving is blocked")


def test_while_postgresql_is_away_only_reads_of_the_archive_fail(redis_url: str) -> None:
    with servers.world_readable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            client = stack.enter_context(archiving_service(redis_url, dsn, api_processes=1))
            header = post(client, [detection("AAPL", timestamp=DETECTED_AT), backtest_progress("job-1", 0.5)])
            wait_until_archived(client)
            events = audit_events(client)
            assert client.get("/api/health").json()["servers"]["postgres"]["status"] == "healthy"
            assert metric(client, "tickview_archive_up") == 1
        for path in ("events", "streams/symbol-AAPL", "verification"):
            response = client.get(f"/api/audit/{path}")
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1"), path
            assert response.json()["type"] == "urn:tickview:problem:unavailable"
            assert "PostgreSQL" in response.json()["detail"]
            assert str(folder) not in response.text
        assert client.get(f"/api/patterns/{PATTERN_ID}", headers=header).json()["events"] is None
        assert client.get("/api/backtests/job-1", headers=header).json()["events"] is None
        header = post(client, [detection("MSFT")])
        assert client.get("/api/patterns/scan", headers=header).json()["pagination"]["total"] == 2
        health = client.get("/api/health")
        components = health.json()
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert components["servers"]["postgres"]["reasons"] == ["does not answer"]
        assert (components["servers"]["postgres"]["status"], components["archive"]) == ("degraded", None)
        assert components["read_models"]["patterns"]["status"] == "healthy"
        assert metric(client, "tickview_archive_up") == 0
        assert metric(client, 'tickview_archive_position{log="users"}') is None
        history = tickview("history", "symbol-AAPL", redis_url=redis_url, postgres_dsn=dsn)
        assert (history.returncode, history.stderr.count(b"\n")) == (1, 1)
        assert b"PostgreSQL does not serve TickView" in history.stderr
        status = tickview_json("status", redis_url=redis_url, postgres_dsn=dsn)
        assert "PostgreSQL" in status["archive"]["error"]
        with servers.postgres(data=folder):
            wait_until(lambda: client.get("/api/audit/events").status_code == 200, "the audit API answers again")
            wait_until_archived(client)
            events_afterwards = audit_events(client)
            assert (events_afterwards[:2], len(events_afterwards)) == (events, 3)
            wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy again")
            # Without PostgreSQL, an archiver ends only after several timeouts.
            stack.close()


def test_a_hanging_postgresql_blocks_no_other_request(redis_url: str) -> None:
    """PostgreSQL accepts connections and never answers."""
    with servers.postgres() as dsn, archiving_service(redis_url, dsn, api_processes=1) as client:
        header = post(client, [detection("AAPL", timestamp=DETECTED_AT)])
        wait_until_archived(client)
        wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "all roles are there")
        with suspended(dsn):
            health = client.get("/api/health").json()
            assert (health["status"], health["servers"]["postgres"]["status"]) == ("degraded",) * 2
            responses = [client.get("/api/audit/events") for _ in range(20)]
            assert {response.status_code for response in responses} == {503}
            pattern = client.get(f"/api/patterns/{PATTERN_ID}", headers=header)
            assert (pattern.status_code, pattern.json()["events"]) == (200, None)
            assert metric(client, "tickview_archive_up") == 0
        wait_until(lambda: client.get("/api/audit/events").status_code == 200, "the audit API answers again")
        wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "the service is healthy again")


@contextmanager
def suspended(dsn: str) -> Iterator[None]:
    """Suspend all processes of a PostgreSQL server until the context ends."""
    with psycopg.connect(dsn) as connection:
        [[folder]] = connection.execute("SHOW data_directory").fetchall()
    postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            if process.is_running():
                process.resume()
