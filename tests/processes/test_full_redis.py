"""A full Redis refuses new events and rows. Reads, status and dead letters go on, and it recovers by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis

from tests.processes.api_service import api, detection, post
from tests.processes.roles import running_role, tickview, tickview_json, wait_until
from tests.processes.test_health import reasons, wait_for_health


@contextmanager
def full(redis: Redis) -> Iterator[None]:
    """Give the server no more memory than it uses."""
    redis.config_set("maxmemory", int(redis.info("memory")["used_memory"]) // 2)
    try:
        yield
    finally:
        redis.config_set("maxmemory", 0)


def test_a_full_redis_is_named_and_everything_but_recording_goes_on(redis: Redis, redis_url: str) -> None:
    with (
        running_role("record", redis_url=redis_url),
        running_role("project", redis_url=redis_url, lease_seconds=2),
        api(redis_url) as client,
    ):
        header = post(client, [detection("BEFORE")])
        refused = client.post("/api/events", json={"event_type": "pattern_detected"})
        assert refused.status_code == 422
        assert client.get("/api/patterns/scan", headers=header).json()["pagination"]["total"] == 1
        wait_for_health(client)
        with full(redis):
            health = wait_for_health(client, "degraded")
            assert "is full and refuses writes" in reasons(health)
            assert all(role["processes"] for role in health["roles"].values()), "heartbeats and leases go on"
            for path in ("/api/patterns/scan", "/api/dead-letters", "/api/projections", "/metrics", "/api/backtests"):
                assert client.get(path).status_code == 200, path
            [letter] = client.get("/api/dead-letters").json()["dead_letters"]
            for response in (
                client.post("/api/events", json=detection("DURING")),
                client.post("/api/projections/patterns/replay"),
                client.post(f"/api/dead-letters/{letter['id']}/retry"),
            ):
                assert (response.status_code, response.headers["Retry-After"]) == (503, "10"), response.text
                assert "the memory of Redis is full" in response.json()["detail"]
            assert client.delete(f"/api/dead-letters/{letter['id']}").status_code == 204
            assert tickview_json("status", redis_url=redis_url)["status"] == "degraded"
            assert tickview_json("dead-letters", "list", redis_url=redis_url) == {"dead_letters": []}
            replay = tickview("replay", "patterns", redis_url=redis_url)
            assert (replay.returncode, replay.stderr.count(b"\n")) == (1, 1), replay.stderr
            with api(redis_url) as second:
                wait_until(lambda: second.get("/api/patterns/scan").status_code == 200, "a second API starts")
        wait_for_health(client)
        header = post(client, [detection("AFTER")])
        assert client.get("/api/patterns/scan", headers=header).json()["pagination"]["total"] == 2
