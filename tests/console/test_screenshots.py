"""The screenshots of the README, of a service with the same patterns each time. ``make screenshots`` writes them."""

import math
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Page, expect

from tests.console.scanner_page import open_scanner, row
from tests.console.service import ConsoleService, changed
from tests.processes.api_service import detection
from tests.processes.archiving_service import wait_until_archived
from tests.processes.roles import tickview_json, wait_until

ROOT = Path(__file__).parents[2]

IMAGES = ROOT / "docs" / "images"

MOST_BYTES = 150_000

SECTORS = {
    "Technology": ("AAPL", "MSFT", "NVDA", "AVGO", "ORCL", "AMD", "CRM"),
    "Financials": ("JPM", "V", "MA", "BAC", "GS"),
    "Health Care": ("LLY", "UNH", "JNJ", "MRK"),
    "Energy": ("XOM", "CVX", "COP"),
    "Industrials": ("CAT", "GE", "HON"),
    "Consumer Staples": ("PG", "KO", "COST"),
}

SYMBOLS = [symbol for symbols in SECTORS.values() for symbol in symbols]

TYPES = (
    *("Weekly_Breakout", "Bull_Flag", "Engulfing", "Ascending_Triangle", "Cup_And_Handle"),
    *("Gap_Up", "Volume_Spike", "Morning_Star", "Doji"),
)

TIERS = ("daily", "intraday", "combo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the images: a temporary folder, unless ``SCREENSHOTS`` asks for those of the documentation."""
    return IMAGES if os.environ.get("SCREENSHOTS") else tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def filled(service: ConsoleService, tmp_path_factory: pytest.TempPathFactory) -> ConsoleService:
    """The service with a catalogue, patterns of the last half hour, and backtests."""
    file = tmp_path_factory.mktemp("catalogue") / "symbols.json"
    rows = [{"symbol": symbol, "sector": sector} for sector, symbols in SECTORS.items() for symbol in symbols]
    file.write_bytes(orjson.dumps(rows))
    tickview_json("catalogue", "sync", "--symbols", str(file), redis_url=service.redis_url, wait_seconds=30)
    now = time.time()
    service.post(*messages(now))
    service.post(*backtests())
    wait_until_archived(service.client)
    statistics = wait_until(lambda: counted(service), "the patterns are counted by sector")
    assert len(statistics["by_sector"]) == len(SECTORS)
    wait_until(lambda: service.client.get("/api/health").json()["status"] == "healthy", "the service is healthy")
    return service


def counted(service: ConsoleService) -> dict[str, Any] | None:
    statistics: dict[str, Any] = service.client.get("/api/patterns/stats").json()["statistics"]
    return statistics if statistics["by_sector"] and statistics["total"] > 100 else None


def messages(now: float) -> Iterator[dict[str, Any]]:
    """Build the detections of half an hour, some of which have ended, and the updates of the first one."""
    chance = random.Random(7)
    for number in range(240):
        at = now - 1_750 * (1 - number / 240) + chance.uniform(-60, 0)
        lifetime = chance.choice((300, 1_200, 5_400, 14_400))
        yield detection(
            chance.choice(SYMBOLS),
            pattern=chance.choice(TYPES),
            source=chance.choice(TIERS),
            confidence=round(chance.triangular(0.4, 0.95, 0.7), 3),
            current_price=round(chance.uniform(40, 600), 2),
            price_change=round(chance.gauss(0.4, 1.5), 2),
            rs=round(chance.uniform(0.7, 1.9), 2),
            vol=round(chance.uniform(0.6, 3.2), 2),
            rsi=round(chance.uniform(25, 80), 1),
            timestamp=round(at, 3),
            expires_at=round(at + lifetime, 3),
        )
    first = detection(
        "NVDA",
        pattern="Bull_Flag",
        confidence=0.84,
        current_price=182.4,
        price_change=1.9,
        rs=1.62,
        vol=2.41,
        rsi=66.3,
        timestamp=round(now - 1_500, 3),
        expires_at=round(now + 3_000, 3),
    )
    yield first
    for number in range(1, 24):
        confidence = 0.84 + number * 0.006 + 0.02 * math.sin(number)
        price = 182.4 + number * 0.14 + 0.6 * math.sin(number / 2)
        update = changed(first, confidence=round(confidence, 3), current_price=round(price, 2))
        yield {**update, "timestamp": round(now - 1_500 + number * 60, 3)}


def backtests() -> Iterator[dict[str, Any]]:
    """Build runs with results, and one under way."""
    chance = random.Random(7)
    for number, name in enumerate(("breakouts-2024", "breakouts-2025", "flags-2025", "triangles-2025")):
        trades = chance.randrange(80, 400)
        rate = round(chance.uniform(0.42, 0.61), 3)
        results = {
            "win_rate": rate,
            "roi": round(chance.uniform(-0.05, 0.31), 3),
            "sharpe_ratio": round(chance.uniform(0.3, 1.9), 2),
            "max_drawdown": round(chance.uniform(0.06, 0.22), 3),
            "total_trades": trades,
            "winning_trades": round(trades * rate),
            "duration_days": 365 + number,
        }
        yield {"event_type": "backtest_result", "job_id": name, "status": "completed", "results": results}
    yield {"event_type": "backtest_progress", "job_id": "flags-2026", "progress": 0.62, "status": "processing"}


def open_detail(page: Page) -> None:
    open_scanner(page)
    page.get_by_text("Filters", exact=True).click()
    row(page, "NVDA").filter(has_text="Bull_Flag").first.click()
    expect(page.locator(".detail li")).to_have_count(24)
    page.mouse.move(5, 5)


def open_overview(page: Page) -> None:
    page.goto("/#/overview")
    expect(page.locator(".toolbar .live")).to_have_text("live")
    expect(page.locator("section").filter(has_text="Sectors").locator("li")).to_have_count(len(SECTORS))


def open_comparison(page: Page) -> None:
    page.goto("/#/backtests?compare=breakouts-2024,breakouts-2025,flags-2025&sort_by=sharpe_ratio")
    expect(page.locator("section[aria-label=Comparison] th[scope=col]")).to_have_count(4)


VIEWS = {
    "scanner": (open_detail, 1280, 800),
    "overview": (open_overview, 1280, 900),
    "backtests": (open_comparison, 1280, 900),
    "phone": (open_overview, 390, 800),
}


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_screenshots_are_made(page: Page, filled: ConsoleService, folder: Path, colours: Any) -> None:
    del filled
    page.emulate_media(color_scheme=colours, reduced_motion="reduce")
    for name, (open_view, width, height) in VIEWS.items():
        page.set_viewport_size({"width": width, "height": height})
        open_view(page)
        file = folder / f"{name}-{colours}.png"
        page.screenshot(path=file, animations="disabled")
        assert 10_000 < file.stat().st_size <= MOST_BYTES


def test_the_documentation_shows_the_screenshots() -> None:
    text = "".join(page.read_text() for page in (ROOT / "README.md", ROOT / "docs" / "console.md"))
    shown = {Path(path).name for path in re.findall(r'(?:src|srcset)="([^"]+\.png)"', text)}
    made = {f"{name}-{colours}.png" for name in VIEWS for colours in ("light", "dark")}
    assert shown == made == {file.name for file in IMAGES.glob("*")}
