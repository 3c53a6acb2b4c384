"""Fixtures: one browser and one service for each module, and a page that fails the test for every fault it reports."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.console.service import ConsoleService, console_service

TIMEOUT_SECONDS = 30
"""Seconds for which an expectation waits. The machine may have other work to do."""

REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`Content-Security-Policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`));
"""


# The browser must end with its module: while it runs, the thread has an event loop, and other tests start their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # The shell has no window system, and takes a quarter less processor time.
    program = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed: apt-get install chromium-headless-shell")
    expect.set_options(timeout=TIMEOUT_SECONDS * 1_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-lcd-text"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(postgres_18_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleService]:
    with console_service(postgres_18_dsn, tmp_path_factory.mktemp("redis")) as service:
        yield service


@pytest.fixture
def faults() -> list[str]:
    """Errors of scripts, violations of the policy, and requests to other servers that the page has reported."""
    return []


@pytest.fixture
def page(browser: Browser, service: ConsoleService, faults: list[str]) -> Iterator[Page]:
    """A page that reports its faults."""
    with watched_context(browser, service, faults) as context:
        yield context.new_page()
    assert faults == []


@contextmanager
def watched_context(browser: Browser, service: ConsoleService, faults: list[str]) -> Iterator[BrowserContext]:
    """Open a context of the browser whose pages note their faults."""
    context = browser.new_context(base_url=service.url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(TIMEOUT_SECONDS * 1_000)

    def note(message: ConsoleMessage) -> None:
        # The browser also reports each answer with an error status. The views show these to the user.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource"):
            faults.append(message.text)

    context.on("console", note)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    context.on("request", lambda request: None if "127.0.0.1" in request.url else faults.append(request.url))
    context.add_init_script(REPORT_VIOLATIONS)
    try:
        yield context
    finally:
        context.close()
