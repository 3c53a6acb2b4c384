"""The PostgreSQL server is lost and its standby promoted: all roles and commands go on by themselves."""

import time
from typing import Any

import httpx

from tests.postgres_pair import postgres_pair
from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import audit_events, wait_until_archived
from tests.processes.roles import running_role, tickview, tickview_json, wait_until
from tests.processes.test_health import health_of, reasons, wait_for_health

SCAN = "/api/patterns/scan"


def announcement(name: str) -> dict[str, Any]:
    """Build the announcement of a pattern of AAPL. All of them are in one log."""
    return detection("AAPL", pattern=name)


def patterns(client: httpx.Client, moment: float) -> set[str]:
    """Return the patterns of the scan as of a moment."""
    answer = client.get(SCAN, params={"as_of": moment, "fields": "full"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["performance"]["source"] == "archive"
    return {row["pattern"] for row in answer.json()["patterns"]}


def test_every_role_goes_on_with_a_promoted_standby(redis_url: str) -> None:
    with postgres_pair() as pair:
        both = pair.on_both(pair.primary)
        settings: dict[str, Any] = {"redis_url": redis_url, "postgres_dsn": both, "lease_seconds": 1}
        commands: dict[str, Any] = {"redis_url": redis_url, "postgres_dsn": both, "postgres_read_dsn": both}
        with (
            running_role("archive", verify_every=0, **settings),
            running_role("project", **settings),
            running_role("record", **settings),
            running_role("alert", **settings),
            api(postgres_read_dsn=both, wait_seconds=30, **settings) as client,
        ):
            post(client, [announcement("Doji")])
            past = time.time()
            post(client, [announcement("Hammer")])
            wait_until_archived(client)
            wait_for_health(client)
            assert patterns(client, past) == {"Doji"}
            pair.resume_replay()

            pair.lose_primary()
            header = post(client, [announcement("Harami")])
            assert client.get(SCAN, headers=header).json()["pagination"]["total"] == 3
            health = wait_for_health(client, "degraded")
            assert "does not answer" in health["servers"]["postgres"]["reasons"]
            assert health["servers"]["postgres_standby"]["status"] == "healthy", reasons(health)
            assert patterns(client, past) == {"Doji"}
            assert [event["hash"] is None for event in audit_events(client)] == [False, False, True]
            refused = tickview("audit", "verify", **commands)
            assert (refused.returncode, refused.stderr.count(b"\n")) == (1, 1)
            assert b"no standby is promoted" in refused.stderr
            assert b"no standby is promoted" in tickview("archive", **settings).stderr

            pair.promote()
            post(client, [announcement("Spike")])
            wait_until(lambda: health_of(client)["servers"]["postgres"]["status"] == "healthy", "PostgreSQL is found")
            wait_until_archived(client)
            wait_for_health(client)
            assert patterns(client, past) == {"Doji"}
            assert patterns(client, time.time()) == {"Doji", "Hammer", "Harami", "Spike"}
            assert all(event["hash"] for event in audit_events(client))
            assert tickview_json("status", **commands)["servers"]["postgres_standby"]["status"] == "healthy"
            verification = tickview_json("audit", "verify", **commands)
            assert (verification["ok"], verification["events"]) == (True, 4)
            assert len(tickview_json("history", "symbol-AAPL", **commands)["events"]) == 4
