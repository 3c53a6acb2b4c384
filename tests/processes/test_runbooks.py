"""The runbooks of docs/operations.md, executed from the page in a running service into which each fault was made."""

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from infra.redis.connections import connect
from tests.processes.api_service import api, detection
from tests.processes.archiving_service import wait_until_archived
from tests.processes.operated_service import LEASE, Service, running_service
from tests.processes.roles import running_role, stop, tickview, wait_until
from tests.processes.test_health import wait_for_health
from tests.runbooks import FIRST_LOOK, executable_sections, execute

PATTERNS = 10

READ_MODEL = """
from dataclasses import dataclass
from typing import Annotated

from domain.events import HealthReported
from projections.base import Projection
from projections.columns import Column
from severities import severity

@dataclass(frozen=True)
class Row:
    source: Annotated[str, Column(equality=True)]
    severity: Annotated[int, Column(range=True, sort=True)]

class Reports(Projection[Row, HealthReported]):
    name = "reports"
    version = 1
    row = Row
    key = "source"
    order = "severity"
    handles = (HealthReported,)

    def keys(self, event):
        return (event.source,)

    def evolve(self, row, event):
        return Row(event.source, severity(event.status))
"""
SEVERITIES = "def severity(status): return {'healthy': 0}[status]"
CORRECT_SEVERITIES = "def severity(status): return {'healthy': 0, 'failing': 2}[status]"


@pytest.fixture(scope="module")
def service(postgres_18_dsn: str) -> Iterator[Service]:
    """All roles, with detections in the log, on the PostgreSQL of the session and a Redis of their own."""
    with running_service(postgres_18_dsn) as service:
        service.post(*(detection(f"S{number}") for number in range(PATTERNS)))
        wait_for_health(service.client)
        yield service


@pytest.fixture
def redis(service: Service) -> Iterator[Redis]:
    with connect(service.url) as client:
        yield client


def scanned(service: Service) -> set[str]:
    """Return the symbols of the active patterns."""
    return {row["symbol"] for row in service.client.get("/api/patterns/scan?per_page=100").json()["patterns"]}


def test_every_runbook_with_commands_is_executed() -> None:
    code = Path(__file__).read_text()
    assert [name for name in executable_sections() if name != FIRST_LOOK and f'execute("{name}"' not in code] == []


def test_a_role_is_down(service: Service) -> None:
    with service.operator() as shell:
        service.roles["record"].kill()
        execute("A role is down", shell)
    service.start_role("record")


def test_the_intake_is_deaf(service: Service, redis: Redis) -> None:
    redis.acl_setuser("recorder", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], commands=["+@all"])
    stop(service.roles["record"])
    service.start_role("record", user="recorder")
    with service.operator() as shell:
        redis.execute_command("ACL", "SETUSER", "recorder", "resetchannels")
        execute("The intake is deaf", shell)
    stop(service.roles["record"])
    service.start_role("record")


def test_redis_is_full(service: Service, redis: Redis) -> None:
    with service.operator() as shell:
        redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) // 2)
        try:
            assert service.client.post("/api/events", json=detection("FULL")).status_code == 503
            execute("Redis is full", shell)
            service.post(detection("FULL"))
        finally:
            redis.config_set("maxmemory", 0)


def test_a_partition_is_stuck(service: Service) -> None:
    with service.operator() as shell:
        service.roles["project"].send_signal(signal.SIGSTOP)
        service.post(detection("STUCK"))
        execute("A partition is stuck", shell)
        assert "STUCK" in scanned(service)
    service.roles["project"].send_signal(signal.SIGCONT)


def test_a_poison_event_and_a_wrong_deploy(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read model meets an event that it cannot fold, and gets a second version that is wrong."""
    monkeypatch.syspath_prepend(service.folder)
    package, severities = service.folder / "reports", service.folder / "severities.py"
    package.mkdir()
    severities.write_text(SEVERITIES)
    (package / "v1.py").write_text(READ_MODEL)
    (package / "__init__.py").write_text("from reports.v1 import Reports\n")
    plugin = {"redis_url": service.url, "plugins": "reports"}
    with (
        service.operator() as shell,
        api(**plugin, postgres_dsn=service.dsn, api_processes=1) as client,
    ):
        shell.run(f"export NAME=reports PYTHONPATH=. TICKVIEW_PLUGINS=reports API={client.base_url}")
        with running_role("project", **plugin, **LEASE) as faulty:
            service.post({"event_type": "system_health", "source": "loader", "status": "failing"})
            wait_until(lambda: client.get("/api/projections/reports/parked").json()["parked"], "the event is parked")
            severities.write_text(CORRECT_SEVERITIES)
            execute("A poison event", shell, {"tickview project ": lambda: stop(faulty)})

        wrong = READ_MODEL.replace("version = 1", "version = 2").replace("severity(event.status)", "-1")
        (package / "v2.py").write_text(wrong)
        imports = "from reports.v1 import Reports as ReportsV1\nfrom reports.v2 import Reports\n"
        (package / "__init__.py").write_text(imports)
        with running_role("project", **plugin, **LEASE):
            execute("A wrong deploy", shell)


def test_dead_letters_arrive(service: Service) -> None:
    with service.operator() as shell:
        early = detection("EARLY", timestamp=time.time() + 3_600)
        assert service.client.post("/api/events", json=early).status_code == 422
        execute("Dead letters arrive", shell)
        wait_until(lambda: "EARLY" in scanned(service), "the message is recorded and folded")


def test_the_archive_is_behind(service: Service) -> None:
    with (
        service.operator() as shell,
        psycopg.connect(service.dsn) as maintenance,
        psycopg.connect(service.dsn) as other,
    ):
        maintenance.execute("LOCK TABLE tickview.events")
        service.post(detection("LOCKED"))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: other.execute(waits).fetchone() != (0,), "the archiver waits for the lock")
        execute("The archive is behind", shell)
        maintenance.close()


def test_the_history_was_changed(service: Service) -> None:
    with service.operator() as shell, psycopg.connect(service.dsn, autocommit=True) as connection:
        connection.execute("UPDATE tickview.pattern_history SET number_confidence = 0.99")
        assert tickview("audit", "verify", redis_url=service.url, postgres_dsn=service.dsn).returncode == 3
        execute("The history was changed", shell)


def test_postgresql_is_lost(service: Service, postgres_18_dsn: str) -> None:
    with service.operator() as shell:
        execute("Backup and restore", shell)
        service.post(detection("AFTER"))
        with psycopg.connect(postgres_18_dsn, autocommit=True) as connection:
            connection.execute("DROP DATABASE tickview WITH (FORCE)")
        service.post(detection("WITHOUT"))
        execute("PostgreSQL is lost", shell)
        wait_until_archived(service.client)
        assert {"AFTER", "WITHOUT"} <= detected(service), "Redis brings the later events"


def detected(service: Service) -> set[str]:
    """Return the symbols of all detections in the archive and in the logs."""
    events = service.client.get("/api/audit/events?type=PatternDetected&limit=100").json()["events"]
    return {event["stream"].removeprefix("symbol-") for event in events}


def test_a_disk_is_full(service: Service, redis: Redis) -> None:
    if not service.disk.is_mount():
        pytest.skip("only root can mount a small disk")
    redis.config_set("appendfsync", "everysec")
    with service.operator() as shell:
        written = subprocess.run(["dd", "if=/dev/zero", f"of={service.disk}/ballast", "bs=64k"], capture_output=True)
        assert b"No space left" in written.stderr
        execute("A disk is full", shell)
    redis.config_set("appendfsync", "always")


def test_redis_is_lost(service: Service) -> None:
    before = scanned(service)
    wait_until_archived(service.client)
    with service.operator() as shell:
        service.redis_server.stop()
        for path in service.disk.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        execute("Redis is lost", shell)
        service.post(detection("NEXT"))
        wait_until(lambda: scanned(service) == {*before, "NEXT"}, "the scan shows all patterns")
    service.start_redis()
