"""How the archive stands, as health, metrics and status tell it: there, behind, held up, away and back."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil
import psycopg

from domain.streams import log_of
from infra.archive.verification.verify import record_verification, verify
from infra.postgres.database import Database
from tests import servers
from tests.processes.api_service import api, detection, post
from tests.processes.past_service import (
    DETECTED_AT,
    PATTERN_ID,
    ask,
    events,
    metric,
    progress,
    wait_until_archived,
    whole_service,
)
from tests.processes.roles import running, tickview, wait_until


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
            f"the archiving of {log} is blocked: the disk is full",
            f"event 1 of {log} does not match the hash chain: it is changed",
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
    with servers.world_readable_folder() as folder, ExitStack() as stack:
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
        assert b"PostgreSQL does not serve TickView" in told_by_cli.stderr
        status = orjson.loads(tickview("status", "--json", redis_url=redis_url, postgres_dsn=dsn).stdout)
        assert "PostgreSQL" in status["archive"]["error"]
        with servers.postgres(data=folder):
            wait_until(lambda: client.get("/api/audit/events").status_code == 200, "the past can be asked again")
            wait_until_archived(client)
            found = events(client)
            assert (found[:2], len(found)) == (told, 3)
            wait_until(lambda: client.get("/api/health").json()["status"] == "healthy", "it is well again")


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
