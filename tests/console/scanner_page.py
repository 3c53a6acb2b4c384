"""The page of the scanner, as the tests use it."""

from playwright.sync_api import Locator, Page, expect


def open_scanner(page: Page, query: str = "") -> None:
    """Open the scanner, and wait for live push."""
    page.goto(f"/#/scanner{query}")
    expect(page.locator(".toolbar .live")).to_have_text("live")


def row(page: Page, symbol: str) -> Locator:
    """Locate the row of a symbol."""
    return page.locator("tbody tr").filter(has=page.get_by_role("button", name=symbol, exact=True))
