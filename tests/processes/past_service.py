"""What keeps and tells the past, as real processes, for tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import orjson

from tests.processes.api_service import api
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
