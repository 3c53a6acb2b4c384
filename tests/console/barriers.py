"""Barriers of a page for people with disabilities, as axe finds them."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

AXE = Path(__file__).parent / "vendor" / "axe.min.js"


def serious_barriers(page: Page) -> list[tuple[str, list[Any]]]:
    """Return the serious barriers of the page: the rule of axe, and the first three elements that break it."""
    page.evaluate(AXE.read_text())
    return [
        (violation["id"], [node["target"] for node in violation["nodes"]][:3])
        for violation in page.evaluate("axe.run()")["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
