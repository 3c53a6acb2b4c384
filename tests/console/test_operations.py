"""The view Operations in a real browser: replay, verification, switch, rollback, parked keys, and states."""

import re
from pathlib import Path

import orjson
import pytest
from playwright.sync_api import Locator, Page, expect

from domain.codec import encode, topic_of
from domain.events import PatternDetected
from domain.streams import log_of
from infra.access.tokens import create_token
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import read_versions
from infra.redis.connections import connect
from projections.ports import Segment
from tests import servers
from tests.console.barriers import serious_barriers
from tests.console.service import ConsoleService
from tests.events import pattern_detected
from tests.processes.api_service import api, detection, read_model_state
from tests.processes.roles import wait_until
from tests.tcp_ports import free_port


@pytest.fixture
def builds(page: Page) -> Locator:
    """The cells of the read model of the patterns in the table of builds."""
    page.goto("/#/operations")
    page.get_by_role("button", name="Replay or roll back patterns").click()
    return (
        page.get_by_role("table", name="Builds of the read models")
        .locator("tr")
        .filter(has_text="patterns")
        .locator("td")
    )


def change_a_row(service: ConsoleService, symbol: str) -> str:
    """Change the confidence of a symbol's only pattern in the live build, behind TickView's back. Return its key."""
    with connect(service.redis_url) as redis:
        live = read_versions(redis, ["patterns"])["patterns"].live
        assert live is not None
        rows = SegmentKeys(Segment("patterns", live, log_of(f"symbol-{symbol}", 4))).rows
        [(key, document)] = [row for row in redis.hgetall(rows).items() if row[0].startswith(f"{symbol}:".encode())]
        redis.hset(rows, key, orjson.dumps({**orjson.loads(document), "confidence": 0.25}))
    return str(key.decode())


def test_a_replay_is_watched_verified_switched_and_rolled_back(
    page: Page, service: ConsoleService, builds: Locator
) -> None:
    service.post(detection("REPLAYED", confidence=0.5), detection("UNCHANGED"))
    live = read_model_state(service.client, "patterns")["live"]
    wait_until(lambda: read_model_state(service.client, "patterns")["lag_events"] == 0, "the patterns are folded")
    key = change_a_row(service, "REPLAYED")
    panel = page.get_by_role("region", name="Replay of patterns")
    panel.get_by_label("Most events per second").fill("100000")
    expect(panel.get_by_label("Wait for me")).to_be_checked()
    panel.get_by_role("button", name="Start the replay").click()
    expect(panel.get_by_role("progressbar", name="Progress of build")).to_be_visible()
    expect(panel).to_contain_text("has caught up. It waits for your command")
    started = read_model_state(service.client, "patterns")
    new = started["building"]
    expect(builds.nth(3)).to_contain_text(new)
    panel.get_by_role("button", name=f"Verify: compare {new} with {live}").click()
    expect(panel).to_contain_text(f"1 difference between {live} and {new}")
    row = panel.get_by_role("row").filter(has_text="confidence")
    expect(panel.get_by_role("table", name="Differences")).to_contain_text(key)
    expect(row.locator("del")).to_have_text("0.25")
    expect(row.locator("ins")).to_have_text("0.5")
    assert serious_barriers(page) == []
    panel.get_by_role("button", name=f"Switch to {new}").click()
    expect(builds.nth(1)).to_have_text(new)
    expect(builds.nth(2)).to_have_text(live)
    panel.get_by_role("button", name=f"Roll back to {live}").click()
    expect(builds.nth(1)).to_have_text(live)
    events = service.client.get("/api/audit/streams/operations").json()["events"]
    commands = [event["data"]["command"] for event in events]
    assert commands == ["replay", "verify-replay", "switch", "rollback"]
    assert events[0]["data"]["details"] == {"held": True, "throttle": 100_000}


def test_what_prevents_a_command_is_explained(page: Page) -> None:
    page.goto("/#/operations")
    page.get_by_role("button", name="Replay or roll back symbols").click()
    panel = page.get_by_role("region", name="Replay of symbols")
    expect(panel.get_by_role("button", name="Start the replay")).to_be_visible()
    expect(panel.get_by_role("button", name="Roll back")).to_have_count(0)
    panel.get_by_label("Most events per second").fill("-1")
    panel.get_by_role("button", name="Start the replay").click()
    assert panel.get_by_label("Most events per second").evaluate("field => field.matches(':invalid')")
    panel.get_by_role("button", name="Close").click()
    expect(panel).to_have_count(0)


@pytest.fixture
def parked_key(service: ConsoleService) -> str:
    """A key of a pattern whose event cannot be folded: the event has a field of another release."""
    event = pattern_detected(event_id="parked", symbol="PARKED", occurred_at=1.0, detected_at=1.0)
    state = orjson.dumps({**orjson.loads(encode(event)), "confidence": "high"})
    with connect(service.redis_url) as redis:
        log = EventLog(redis, log_of(event.stream, 4))
        log.append([NewEvent(event.stream, topic_of(PatternDetected), state, event.event_id)])
    wait_until(lambda: read_model_state(service.client, "patterns")["parked_keys"], "the key is parked")
    return event.stream


def test_parked_keys_are_shown_with_their_error(page: Page, parked_key: str) -> None:
    page.goto("/#/operations")
    page.get_by_role("row").filter(has_text="patterns").get_by_role("button", name="1 parked").click()
    panel = page.get_by_role("region", name="Parked keys of patterns")
    expect(panel.get_by_role("listitem")).to_contain_text(parked_key)
    expect(panel.get_by_role("listitem")).to_contain_text("confidence")
    expect(panel.get_by_role("listitem")).to_contain_text("1 events wait since")
    assert serious_barriers(page) == []
    panel.get_by_role("button", name=f"Retry @{parked_key}").click()
    expect(panel.get_by_role("listitem")).to_contain_text(parked_key)
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_an_unavailable_service_is_named_until_it_is_back(page: Page) -> None:
    port = free_port()
    with api(f"redis://127.0.0.1:{port}") as client:
        page.goto(f"{client.base_url}/#/operations")
        expect(page.get_by_role("alert")).to_contain_text("Redis cannot be reached")
        expect(page.locator("header .health")).to_contain_text("unhealthy")
        with servers.valkey(port=port):
            expect(page.get_by_role("table", name="Builds of the read models")).to_be_visible()
            expect(page.get_by_role("alert")).to_have_count(0)
            expect(page.locator(".verdict")).to_contain_text("Role project")


def test_a_gap_is_listed_with_its_reason(page: Page, service: ConsoleService) -> None:
    with connect(service.redis_url) as redis:
        redis.client_kill_filter(_type="pubsub")
    page.goto("/#/operations")
    gaps = page.get_by_role("table", name="Times in which a recorder did not hear a way")
    expect(gaps.get_by_role("row").nth(1)).to_contain_text("pubsub")


def test_a_reader_is_told_the_missing_scope(page: Page, service: ConsoleService, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    reader, _ = create_token(tokens, "anna", ["read"], None)
    with service.guarded(tokens) as url:
        page.goto(f"{url}/#/operations")
        expect(page.get_by_role("alert").first).to_contain_text("You are signed out")
        page.get_by_label("Token").fill(reader)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert").filter(has_text=re.compile("scope “operate”"))).to_have_count(1)
        page.get_by_role("button", name="Replay or roll back patterns").click()
        panel = page.get_by_role("region", name="Replay of patterns")
        panel.get_by_role("button", name="Start the replay").click()
        expect(panel.get_by_role("alert").first).to_contain_text("scope “operate”")
        page.get_by_role("link", name="Audit").click()
        expect(page.get_by_role("region", name="Verification", exact=True)).to_contain_text("scope “operate”")
        page.get_by_role("button", name="Take a head").click()
        expect(page.get_by_role("region", name="Heads", exact=True).get_by_role("alert").first).to_contain_text(
            "scope “operate”"
        )
