"""The API reference at /docs in a real browser, below any prefix."""

import pytest
from playwright.sync_api import Page, expect

from tests.console.barriers import serious_barriers
from tests.console.service import ConsoleService


def test_the_page_shows_every_operation_by_tag(page: Page, service: ConsoleService) -> None:
    page.goto("/docs")
    expect(page.get_by_role("heading", level=1)).to_have_text("API")
    document = service.client.get("/openapi.json").json()
    operations = [operation for methods in document["paths"].values() for operation in methods.values()]
    expect(page.locator("details.operation")).to_have_count(len(operations))
    for tag in document["tags"]:
        expect(page.get_by_role("region", name=tag["name"], exact=True)).to_contain_text(tag["description"])
    page.get_by_label("Search").fill("post replay")
    expect(page.locator("details.operation")).to_have_count(1)
    page.locator("details.operation summary").first.click()
    details = page.locator("details.operation")
    expect(details).to_contain_text("throttle")
    expect(details.locator("pre").first).to_contain_text('"hold": true')
    expect(details.locator("details.answer").filter(has_text="202")).to_contain_text('"live": "4.7"')
    page.get_by_label("Search").fill("nothing like this")
    expect(page.get_by_text("No operation contains these words.")).to_be_visible()
    page.get_by_role("link", name="Operations", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Operations")


def test_every_operation_can_be_opened(page: Page) -> None:
    page.goto("/docs")
    summaries = page.locator("details.operation > summary")
    expect(summaries.first).to_be_visible()
    page.evaluate("document.querySelectorAll('details.operation').forEach((each) => (each.open = true))")
    expect(page.locator("details.operation pre").last).to_be_visible()
    assert page.locator("details.operation h3").filter(has_text="Answers").count() == summaries.count()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_reference_has_no_serious_barrier(page: Page, colours: str) -> None:
    page.emulate_media(color_scheme="light" if colours == "light" else "dark", reduced_motion="reduce")
    page.goto("/docs")
    page.get_by_label("Search").fill("scan")
    page.locator("details.operation summary").first.click()
    expect(page.locator("details.operation pre").first).to_be_visible()
    assert serious_barriers(page) == []
