"""The other views in a real browser, access, accessibility, and the files of the console."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Error, Page, expect

from infra.access.tokens import create_token
from readapi.console.files import console_files
from tests.console.service import ConsoleService
from tests.processes.api_service import detection
from tests.processes.roles import tickview

AXE = Path(__file__).parent / "vendor" / "axe.min.js"

VIEWS = ("scanner", "overview", "backtests", "read-models", "audit?of=symbol-BARRIER", "operations")

MOST_COMPRESSED_BYTES = 200_000


def backtest(job: str, progress: float, **results: float) -> dict[str, Any]:
    if results:
        return {"event_type": "backtest_result", "job_id": job, "status": "completed", "results": results}
    return {"event_type": "backtest_progress", "job_id": job, "progress": progress, "status": "processing"}


def test_the_overview_moves_with_the_patterns(page: Page, service: ConsoleService) -> None:
    page.goto("/#/overview")
    expect(page.locator(".toolbar .live")).to_have_text("live")
    expect(page.locator("canvas")).to_be_visible()
    service.publish(detection("MOVES", pattern="Moving_Pattern"))
    bar = page.locator("li").filter(has_text="Moving Pattern")
    expect(bar.locator(".count")).to_have_text("1")
    service.publish(detection("MOVES2", pattern="Moving_Pattern"))
    expect(bar.locator(".count")).to_have_text("2")
    bar.get_by_role("link").click()
    expect(page.locator("tbody tr")).to_have_count(2)


def test_backtests_progress_and_stand_side_by_side(page: Page, service: ConsoleService) -> None:
    service.post(backtest("job-one", 0.25))
    page.goto("/#/backtests")
    run = page.locator("tbody tr").filter(has_text="job-one")
    expect(run).to_contain_text("25.0 %")
    service.post(backtest("job-one", 0.5))
    expect(run).to_contain_text("50.0 %")
    service.post(backtest("job-one", 1, win_rate=0.6, roi=0.1), backtest("job-two", 1, win_rate=0.4, roi=0.2))
    expect(run).to_contain_text("completed")
    expect(page.get_by_label("job-two", exact=True)).to_be_visible()
    page.get_by_label("job-one", exact=True).check()
    page.get_by_label("job-two", exact=True).check()
    comparison = page.locator("section[aria-label=Comparison]")
    rates = comparison.locator("tr").filter(has_text="Win rate").locator("td")
    expect(rates).to_have_text(["0.6", "0.4"])
    page.get_by_role("button", name="Win rate").click()
    expect(page.get_by_role("region", name="Runs").locator("tbody tr").first).to_contain_text("job-one")


def test_any_read_model_is_a_table_with_its_filters(page: Page, service: ConsoleService) -> None:
    service.post(detection("MODELA"), detection("MODELB"))
    page.goto("/#/read-models")
    expect(page.get_by_role("columnheader", name="Relative strength")).to_be_visible()
    page.get_by_text("Filters", exact=True).click()
    page.locator("input[name=symbol]").fill("MODELA")
    page.locator("input[name=symbol]").press("Enter")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.locator("select[name=name]").select_option("activity")
    expect(page.get_by_role("columnheader", name="Latest at")).to_be_visible()
    names = page.locator("select[name=name] option").all_text_contents()
    listed = service.client.get("/api/read-models").json()["read_models"]
    assert names == [model["name"] for model in listed if model["scope"] is not None]


def test_operations_show_every_part_and_a_dead_letter(page: Page, service: ConsoleService) -> None:
    refused = service.client.post("/api/events", json={"channel": "tickstock.events.patterns", "payload": '{"broken'})
    assert refused.status_code == 422
    assert tickview("audit", "verify", redis_url=service.redis_url, postgres_dsn=service.dsn).returncode == 0
    page.goto("/#/operations")
    parts = page.locator("table").first
    for name in ("Redis", "Postgres", "Role project", "Role archive", "Intake", "Archive", "Verification"):
        expect(parts.get_by_role("cell", name=name, exact=True)).to_be_visible()
    page.get_by_role("row").filter(has_text="not-json").get_by_role("button").click()
    letter = page.locator(".letter")
    expect(letter.locator("pre")).to_have_text('{"broken')
    letter.get_by_role("button", name="Retry").click()
    expect(letter.get_by_role("alert")).to_contain_text("not JSON")
    page.once("dialog", lambda dialog: dialog.accept())
    letter.get_by_role("button", name="Discard").click()
    expect(page.get_by_text("There is no dead letter.")).to_be_visible()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_no_view_has_a_serious_barrier(page: Page, service: ConsoleService, colours: Any) -> None:
    service.post(detection("BARRIER"), backtest("job-barrier", 0.5))
    page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    found = {}
    for view in VIEWS:
        page.goto(f"/#/{view}")
        expect(page.locator("tbody tr, .bars li, .timeline li").first).to_be_visible()
        if view == "scanner":
            page.locator("tbody .opener").first.click()
            expect(page.locator(".detail canvas")).to_be_visible()
        page.evaluate(AXE.read_text())
        answer = page.evaluate("axe.run()")
        found[view] = [
            (violation["id"], [node["target"] for node in violation["nodes"]][:3])
            for violation in answer["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
    assert found == {view: [] for view in VIEWS}


def test_a_token_stays_in_memory_and_opens_what_it_may(page: Page, service: ConsoleService, tmp_path: Path) -> None:
    service.post(detection("TOKEN"))
    tokens = tmp_path / "tokens.json"
    reader, _ = create_token(tokens, "anna", ["read"], None)
    with service.guarded(tokens) as url:
        page.goto(f"{url}/#/scanner?symbols=TOKEN")
        expect(page.get_by_role("alert")).to_contain_text("You are signed out")
        page.get_by_label("Token").fill(reader)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator(".toolbar .live")).to_have_text("live")
        kept = page.evaluate("[document.cookie, localStorage.length, sessionStorage.length, location.href]")
        assert kept[:3] == ["", 0, 0]
        assert reader not in kept[3]
        page.get_by_role("link", name="Operations").click()
        expect(page.get_by_role("alert")).to_contain_text("scope “operate”")
        page.get_by_role("link", name="Scanner").click()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("alert")).to_contain_text("You are signed out")
        expect(page.locator("tbody tr")).to_have_count(0)


def test_the_page_is_served_with_a_strict_policy(service: ConsoleService) -> None:
    response = service.client.get("/")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert service.client.get("/console").content == response.content
    assert service.client.get("/console/", follow_redirects=True).content == response.content
    head = service.client.head("/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["ETag"] == response.headers["ETag"]
    again = service.client.get("/", headers={"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_violation_of_the_policy_is_a_fault(page: Page, faults: list[str]) -> None:
    page.goto("/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert faults == []
    page.evaluate("document.head.append(Object.assign(document.createElement('style'), {textContent: 'p {}'}))")
    page.evaluate("fetch('http://127.0.0.2/').catch(() => null)")
    # The report of the browser comes after the exception.
    with (
        page.expect_console_message(lambda message: "require-trusted-types-for" in message.text),
        pytest.raises(Error, match="TrustedHTML"),
    ):
        page.evaluate("document.body.innerHTML = '<b>inserted</b>'")
    text = "\n".join(faults)
    for directive in ("style-src", "connect-src", "require-trusted-types-for"):
        assert directive in text
    faults.clear()


def test_files_are_small_and_nothing_else_is_served(service: ConsoleService) -> None:
    sizes = {}
    for name, file in console_files().items():
        with service.client.stream("GET", f"/console/{name}", headers={"Accept-Encoding": "gzip"}) as response:
            compressed = b"".join(response.iter_raw())
        sizes[name] = len(compressed)
        plain = service.client.get(f"/console/{name}", headers={"Accept-Encoding": "identity"})
        assert plain.content == file.content
        assert plain.headers["Content-Type"] == file.media_type
    assert sum(sizes.values()) <= MOST_COMPRESSED_BYTES
    for name in ("missing.js", "../files.py", "..%2Ffiles.py", "vendor"):
        response = service.client.get(httpx.URL(f"{service.url}/console/{name}"))
        assert response.status_code == 404, name
    assert not [
        path for path in service.client.get("/openapi.json").json()["paths"] if "console" in path or path == "/"
    ]
