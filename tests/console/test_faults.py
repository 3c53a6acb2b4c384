"""The console during faults: Redis away, live push blocked, two windows that change the same list."""

from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from tests.console.scanner_page import open_scanner, row
from tests.console.service import ConsoleService
from tests.processes.api_service import detection


def test_a_stopped_redis_is_shown_and_the_page_recovers_by_itself(page: Page, service: ConsoleService) -> None:
    service.post(detection("BEFORE"))
    open_scanner(page, "?symbols=BEFORE,AFTER")
    expect(row(page, "BEFORE")).to_be_visible()
    page.evaluate("window.isSamePage = true")
    service.redis.stop()
    expect(page.locator(".toolbar .live")).to_have_text("stale: Redis is away")
    expect(page.get_by_text("Redis has been away")).to_be_visible()
    expect(row(page, "BEFORE")).to_be_visible()
    service.redis.start()
    expect(page.locator(".toolbar .live")).to_have_text("live")
    expect(page.get_by_text("Redis has been away")).to_have_count(0)
    service.post(detection("AFTER"))
    expect(row(page, "AFTER")).to_be_visible()
    assert page.evaluate("window.isSamePage")


def make_stale(route: Route) -> None:
    response = route.fetch()
    route.fulfill(response=response, json=response.json() | {"stale": True, "age_seconds": 3})


@pytest.mark.parametrize(
    ("view", "path"), [("scanner", "**/api/patterns/scan?**"), ("backtests", "**/api/backtests?**")]
)
def test_a_stale_answer_is_read_again_although_live_push_works(page: Page, view: str, path: str) -> None:
    """The processes of the API do not notice the return of Redis at the same moment."""
    page.clock.install()
    page.route(path, make_stale)
    page.goto(f"/#/{view}")
    expect(page.locator(".live")).to_have_text("live")
    expect(page.get_by_text("Redis has been away")).to_be_visible()
    page.clock.run_for(1_000)
    page.unroute_all(behavior="wait")
    page.clock.fast_forward(5_000)
    expect(page.get_by_text("Redis has been away")).to_have_count(0)


def refuse(route: Route) -> None:
    route.fulfill(status=501, content_type="application/problem+json", body="{}")


def hold_back(_route: Route) -> None:
    """Never answer, like a proxy that waits for the end of the stream."""


@pytest.mark.parametrize(("handle", "state"), [(refuse, "not live: refused"), (hold_back, "connecting")])
def test_without_live_push_the_page_polls(page: Page, service: ConsoleService, handle: Any, state: str) -> None:
    symbol = f"POLLED{state[0].upper()}"
    page.clock.install()
    page.route("**/api/patterns/stream**", handle)
    page.goto(f"/#/scanner?symbols={symbol}")
    expect(page.locator(".toolbar .live")).to_have_text(state)
    expect(page.get_by_text("No active pattern matches")).to_be_visible()
    service.post(detection(symbol))
    page.clock.fast_forward(5_000)
    expect(row(page, symbol)).to_be_visible()


def test_a_list_that_two_windows_change_keeps_the_version_that_the_user_chooses(
    page: Page, service: ConsoleService
) -> None:
    path = "/api/users/watchlists"
    created = service.client.post(path, json={"name": "Shared", "symbols": ["ONE"]}).json()["watchlist"]
    other = page.context.new_page()
    for window in (page, other):
        open_scanner(window, f"?watchlist={created['id']}")
        expect(window.get_by_label("Symbols of the watchlist")).to_have_value("ONE")

    def save(window: Page, symbols: str) -> None:
        window.get_by_label("Symbols of the watchlist").fill(symbols)
        window.get_by_role("button", name="Save the changes").click()

    def saved() -> Any:
        return service.client.get(f"{path}/{created['id']}").json()["watchlist"]["symbols"]

    with page.expect_response(f"**{path}/*") as response:
        save(page, "ONE,TWO")
    assert response.value.status == 200
    save(other, "ONE,THREE")
    expect(other.get_by_role("alert")).to_contain_text("Somebody has changed this list since you opened it")
    assert saved() == ["ONE", "TWO"]
    other.get_by_role("button", name="Save mine over it").click()
    expect(other.get_by_role("alert")).to_have_count(0)
    assert saved() == ["ONE", "THREE"]
    save(page, "FOUR")
    page.get_by_role("button", name="Show the other version").click()
    expect(page.get_by_label("Symbols of the watchlist")).to_have_value("ONE,THREE")
    assert saved() == ["ONE", "THREE"]
