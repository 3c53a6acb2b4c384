"""A service with an archive as real processes, the messages it records, and readers of its audit API."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from tests.processes.api_service import api
from tests.processes.roles import running_role, wait_until

DETECTED_AT = 1_790_000_000.0
PATTERN_ID = "AAPL:Weekly_Breakout:daily:1790000000000"


def pattern_update(symbol: str, detected_at: float, **fields: Any) -> dict[str, Any]:
    """An update of the pattern that ``api_service.detection`` announces."""
    data = {"symbol": symbol, "pattern": "Weekly_Breakout", "detected_at": detected_at, **fields}
    return {"event_type": "pattern_updated", "source": "tests", "timestamp": detected_at + 60, "data": data}


def backtest_progress(job: str, progress: float) -> dict[str, Any]:
    return {
        "event_type": "backtest_progress",
        "source": "tests",
        "job_id": job,
        "progress": progress,
        "flow_id": "flow-7",
    }


@contextmanager
def archiving_service(redis_url: str, dsn: str, **settings: Any) -> Iterator[httpx.Client]:
    """Run the roles archive, project, record and serve. Yield a client of the API."""
    with ExitStack() as stack:
        for role in ("archive", "project", "record"):
            stack.enter_context(running_role(role, redis_url=redis_url, postgres_dsn=dsn, lease_seconds=2))
        yield stack.enter_context(api(redis_url, postgres_dsn=dsn, wait_seconds=30, **settings))


def audit_events(client: httpx.Client, path: str = "events", **parameters: Any) -> list[dict[str, Any]]:
    """Read the events of all pages of the audit API."""
    events: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        response = client.get(f"/api/audit/{path}", params={**parameters, **cursor})
        assert response.status_code == 200, response.text
        page = response.json()
        events += page["events"]
        if page["next"] is None:
            return events
        cursor = {"cursor": page["next"]}


def wait_until_archived(client: httpx.Client) -> None:
    """Wait until the archive has every recorded event."""

    def is_archived() -> bool:
        archive = client.get("/api/health").json()["archive"]
        return bool(archive) and all(log["lag_events"] == 0 for log in archive["logs"].values())

    wait_until(is_archived, "every event is archived")


def metric(client: httpx.Client, name: str) -> float | None:
    """Read the value of a metric; None if the API does not export the metric."""
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{name} ")), None)
