"""The view Audit in a real browser: the timelines of streams, patterns and lists, verification, and heads."""

from pathlib import Path

import orjson
from playwright.sync_api import Locator, Page, expect

from tests.console.barriers import serious_barriers
from tests.console.service import ConsoleService, changed
from tests.processes.api_service import detection, post
from tests.processes.archiving_service import wait_until_archived


def look_up(page: Page, subject: str, user: str = "") -> Locator:
    """Look up a subject, and return its events."""
    page.goto("/#/audit")
    page.get_by_label("Stream, pattern, run or list").fill(subject)
    page.get_by_label("Owner of the list").fill(user)
    page.get_by_role("button", name="Look up").click()
    expect(page.get_by_role("heading", name=f"Events of {subject}")).to_be_visible()
    return page.locator(".timeline > li")


def change(event: Locator, field: str) -> Locator:
    return event.get_by_role("row").filter(has=event.page.get_by_role("rowheader", name=field, exact=True))


def test_each_event_of_a_stream_has_the_values_before_and_after(page: Page, service: ConsoleService) -> None:
    message = detection("AUDITED", confidence=0.6)
    service.post(message, changed(message, confidence=0.9))
    wait_until_archived(service.client)
    events = look_up(page, "symbol-AUDITED")
    expect(events).to_have_count(2)
    expect(change(events.nth(0), "confidence").get_by_role("cell")).to_have_text(["–", "0.6"])
    expect(change(events.nth(1), "confidence").get_by_role("cell")).to_have_text(["0.6", "0.9"])
    recorded = service.client.get("/api/audit/streams/symbol-AUDITED").json()["events"]
    expect(events.nth(1)).to_contain_text(recorded[1]["hash"])
    assert serious_barriers(page) == []
    look_up(page, "symbol-NOBODY")
    expect(page.get_by_role("alert").filter(has_text="symbol-NOBODY")).to_be_visible()


def test_a_run_and_an_ended_pattern_are_looked_up(page: Page, service: ConsoleService) -> None:
    service.post({"event_type": "backtest_progress", "job_id": "job-audited", "progress": 0.5, "status": "processing"})
    expect(look_up(page, "job-audited").first).to_contain_text("BacktestProgressed")
    message = detection("ENDED")
    [row] = service.client.get("/api/patterns/scan?symbols=ENDED", headers=post(service.client, [message])).json()[
        "patterns"
    ]
    data = {"symbol": "ENDED", "pattern": "Weekly_Breakout", "detected_at": message["timestamp"]}
    position = post(
        service.client,
        [{"event_type": "pattern_expired", "source": "tests", "timestamp": message["timestamp"], "data": data}],
    )
    assert service.client.get(f"/api/patterns/{row['id']}", headers=position).status_code == 404
    events = look_up(page, row["id"])
    expect(events).to_have_count(2)
    expect(events.nth(1)).to_contain_text("PatternExpired")


def test_a_list_is_looked_up_from_its_owner(page: Page, service: ConsoleService) -> None:
    anna = {"X-User-ID": "anna"}
    path = "/api/users/watchlists"
    created = service.client.post(path, json={"name": "First", "symbols": ["AAPL"]}, headers=anna).json()["watchlist"]
    other = service.client.post(path, json={"name": "Other"}, headers=anna)
    renamed = service.client.put(f"{path}/{created['id']}", json={"name": "Second"}, headers=anna)
    assert (other.status_code, renamed.status_code) == (201, 200)
    events = look_up(page, "user-anna")
    expect(events).to_have_count(3)
    events.first.get_by_role("link", name=created["id"]).click()
    expect(page.get_by_role("heading", name=f"Events of {created['id']}")).to_be_visible()
    expect(events).to_have_count(2)
    expect(change(events.nth(1), "name").get_by_role("cell")).to_have_text(["First", "Second"])
    expect(look_up(page, created["id"], "anna")).to_have_count(2)
    look_up(page, created["id"])
    expect(page.get_by_role("alert")).to_contain_text(created["id"])


def test_the_archive_is_verified_with_progress(page: Page, service: ConsoleService) -> None:
    service.post(detection("VERIFIED"))
    wait_until_archived(service.client)
    page.goto("/#/audit")
    panel = page.get_by_role("region", name="Verification", exact=True)
    panel.get_by_role("button", name="Verify").click()
    expect(panel.get_by_role("button", name="Verify")).to_be_disabled()
    expect(panel).to_contain_text("The verification ended at")
    expect(panel).to_contain_text("Everything fits")
    assert serious_barriers(page) == []
    expect(panel.get_by_role("table", name="Verified logs").get_by_role("row")).not_to_have_count(1)
    panel.get_by_role("combobox", name="Log").select_option("users")
    panel.get_by_label("From position or time").fill("9999")
    panel.get_by_role("button", name="Verify").click()
    expect(panel.get_by_role("alert")).to_contain_text("no event in this range")
    panel.get_by_label("From position or time").fill("yesterday")
    panel.get_by_role("button", name="Verify").click()
    expect(panel.get_by_role("alert").first).to_contain_text("should be a position")


def test_a_head_is_taken_saved_and_checked(page: Page, service: ConsoleService, tmp_path: Path) -> None:
    service.post(detection("HEADED"))
    wait_until_archived(service.client)
    page.goto("/#/audit")
    panel = page.get_by_role("region", name="Heads", exact=True)
    panel.get_by_role("button", name="Take a head").click()
    expect(panel).to_contain_text("not signed")
    with page.expect_download() as download:
        panel.get_by_role("button", name="Save as a file").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    heads = orjson.loads(file.read_bytes())
    assert {head["log"] for head in heads["heads"]} >= {"market-0"}
    panel.get_by_label("Check a head file").set_input_files(file)
    expect(panel).to_contain_text("The present history extends these heads")
    assert serious_barriers(page) == []
    heads["heads"][0]["hash"] = "0" * 64
    file.write_bytes(orjson.dumps(heads))
    panel.get_by_label("Check a head file").set_input_files(file)
    expect(panel).to_contain_text("does not extend these heads")
    expect(panel.get_by_role("row").filter(has_text="the history up to the head was changed")).to_have_count(1)
    file.write_text("no head")
    panel.get_by_label("Check a head file").set_input_files(file)
    expect(panel.get_by_role("alert")).to_contain_text("it is not JSON")
