"""Scans without a pause during a rolling deployment, rollbacks and a replay on a cluster.

No request fails, and no response mixes two builds. Workers and API processes of both releases run side by side, and
every connection uses the API processes of both in turn.

The next version of ``patterns`` rounds confidences to one decimal (``release.py``), so that each response shows the
version of its build. A producer announces patterns all the time. Each response must contain every pattern up to its
position.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from itertools import count
from threading import Event, Lock
from typing import NamedTuple

import httpx

from tests.clusters import STEADY, redis_cluster
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import LIMITS, TIMEOUT_SECONDS, api, detection, post, read_model_state
from tests.processes.release import (
    FIRST_BUILD,
    NEXT_BUILD,
    NEXT_VERSION,
    REPLAYED_NEXT_BUILD,
    api_of,
    running_release,
)
from tests.processes.roles import wait_until

CONNECTIONS = 3

SMALL_STEPS = {"lease_seconds": 2, "fold_batch": 20}
"""Settings of the workers. The batches are small, so that a switch takes several commits."""

PATTERNS_BEFORE_LOAD = 60

PATTERNS = 100
"""Number of all patterns. It is the highest number of rows of a page."""

OTHER_EVENTS = 3_000
"""Number of events that patterns do not fold. They prolong a build."""

MIN_CONFIDENCE = 0.78
"""A confidence between 0.76 and 0.8: the present version leaves 0.76 as it is, the next one rounds it to 0.8."""

SCANS = {
    "/api/patterns/scan?per_page=100&fields=full&confidence_min=0": 0.0,
    "/api/patterns/scan?per_page=100&fields=full&sort_by=symbol&confidence_min=0": 0.0,
    f"/api/patterns/scan?per_page=100&fields=full&confidence_min={MIN_CONFIDENCE}": MIN_CONFIDENCE,
}
"""Scan -> the lowest confidence of its result."""


class RecordedPattern(NamedTuple):
    """A pattern in the event log."""

    log: str
    position: int
    confidence: float


class ScanResult(NamedTuple):
    """The response of one scan."""

    min_confidence: float
    response: httpx.Response
    patterns_sent: int
    """Number of patterns that had been sent when the response arrived."""

    @property
    def build(self) -> str:
        return str(self.response.json()["cache_info"]["build"])


class Load:
    """Connections that scan without a pause, and a connection that announces patterns and reads each pattern back."""

    def __init__(self, client: httpx.Client) -> None:
        self.urls = [client.base_url]
        """The addresses of the API. Requests use them in turn."""
        self._under_way: Counter[httpx.URL] = Counter()
        """Address -> number of the requests to it that have no response yet."""
        self._lock = Lock()
        self._stop = Event()
        self.recorded: dict[str, RecordedPattern] = {}
        """Symbol -> its recorded pattern."""
        self.sent = 0
        """Number of patterns that were sent, recorded or not yet."""
        self.results: list[ScanResult] = []

    def announce(self, client: httpx.Client, reader: httpx.Client) -> None:
        """Announce the next pattern and read it back from whichever build answers."""
        symbol, confidence = f"S{self.sent:03}", 0.71 + self.sent % 29 / 100
        self.sent += 1
        header = post(client, [detection(symbol, confidence=confidence)])
        log, _, position = header["TickView-Min-Position"].partition("=")
        self.recorded[symbol] = RecordedPattern(log, int(position), round(confidence, 2))
        read = reader.get(f"/api/patterns/scan?symbols={symbol}", headers=header)
        assert read.status_code == 200, read.text
        assert [row["symbol"] for row in read.json()["patterns"]] == [symbol]

    def scan(self) -> None:
        """Repeat the scans until the load stops."""
        with self._clients() as client_of:
            for number in count():
                path, min_confidence = list(SCANS.items())[number % len(SCANS)]
                with client_of(number) as client:
                    response = client.get(path)
                self.results.append(ScanResult(min_confidence, response, self.sent))
                if self._stop.is_set():
                    return

    def write(self) -> None:
        """Announce patterns until the number is complete or the load stops."""
        with self._clients() as client_of:
            while self.sent < PATTERNS and not self._stop.wait(0.1):
                with client_of(self.sent) as client, client_of(self.sent + 1) as reader:
                    self.announce(client, reader)

    @contextmanager
    def _clients(self) -> Iterator[Callable[[int], AbstractContextManager[httpx.Client]]]:
        """Yield a function that returns the client for a request, by its number. Each address has one client."""
        with ExitStack() as stack:

            @cache
            def client(url: httpx.URL) -> httpx.Client:
                return stack.enter_context(
                    httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, limits=LIMITS, verify=PLAIN_HTTP)
                )

            @contextmanager
            def client_of(number: int) -> Iterator[httpx.Client]:
                with self._lock:
                    url = self.urls[number % len(self.urls)]
                    self._under_way[url] += 1
                yield client(url)
                with self._lock:
                    self._under_way[url] -= 1

            yield client_of

    def leave(self, url: httpx.URL) -> None:
        """Send no more requests to an address, and wait for the responses, as a proxy does before a server stops."""
        with self._lock:
            self.urls.remove(url)
        wait_until(lambda: not self._under_way[url], "the last requests have their responses")

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the load until the context ends. The end raises the failure of a thread."""
        with ThreadPoolExecutor(CONNECTIONS + 1) as threads:
            futures: list[Future[None]] = [threads.submit(self.write)]
            futures += [threads.submit(self.scan) for _ in range(CONNECTIONS)]
            try:
                yield
            finally:
                self._stop.set()
        for future in futures:
            future.result()

    def wait_for_results(self) -> None:
        """Wait for further results of all connections."""
        number = len(self.results) + 10 * CONNECTIONS
        wait_until(lambda: len(self.results) > number, "the load goes on")

    def builds(self) -> list[str]:
        """Return the builds of all responses in the order of their first response."""
        return list(dict.fromkeys(result.build for result in list(self.results)))

    def wait_for_build(self, build: str, description: str) -> None:
        """Wait until the latest responses of all connections are from this build."""

        def all_from_build() -> bool:
            latest = self.results[-10 * CONNECTIONS :]
            return len(latest) == 10 * CONNECTIONS and {result.build for result in latest} == {build}

        wait_until(all_from_build, description)


def confidence_in(version: int, confidence: float) -> float:
    """Return the confidence that a version stores for an announced confidence."""
    return round(confidence, 1) if version == NEXT_VERSION else confidence


def check(result: ScanResult, recorded: dict[str, RecordedPattern]) -> None:
    """Check that a response has exactly the patterns of its build, complete up to its position."""
    response = result.response
    assert response.status_code == 200, response.text
    content = response.json()
    version = content["cache_info"]["version"]
    assert result.build.startswith(f"{version}.")
    rows = {row["symbol"]: round(row["confidence"], 2) for row in content["patterns"]}
    assert content["pagination"]["total"] == len(rows) == len(content["patterns"])
    positions = {
        log: int(position)
        for log, _, position in (pair.partition("=") for pair in response.headers["TickView-Position"].split(","))
    }
    expected = {
        symbol: confidence
        for symbol, pattern in recorded.items()
        if (confidence := confidence_in(version, pattern.confidence)) >= result.min_confidence
    }
    folded = {symbol for symbol, pattern in recorded.items() if pattern.position <= positions[pattern.log]}
    assert rows.items() <= expected.items()
    assert rows.keys() >= folded & expected.keys()
    assert rows.keys() <= set(list(recorded)[: result.patterns_sent])


def test_every_scan_during_a_rolling_deployment_is_answered_by_one_build() -> None:
    first, following, replayed = map(str, (FIRST_BUILD, NEXT_BUILD, REPLAYED_NEXT_BUILD))
    with (
        redis_cluster(with_replicas=False, **STEADY) as cluster,
        ExitStack() as new,
        ExitStack() as old,
        ExitStack() as loading,
    ):
        url = cluster.url
        old.enter_context(running_release("1", redis_url=url, **SMALL_STEPS))
        client = old.enter_context(api(url, wait_seconds=30))
        load = Load(client)
        for _ in range(PATTERNS_BEFORE_LOAD):
            load.announce(client, client)
        post_other_events(client)
        loading.enter_context(load.run())
        load.wait_for_build(first, "the first build answers")
        # Deployment: the API process of the new release answers from the build of the old version.
        new_client = new.enter_context(api_of("2", redis_url=url, wait_seconds=30))
        load.urls.append(new_client.base_url)
        load.wait_for_results()
        # The worker of the new release builds its version beside the build of the old version.
        new.enter_context(running_release("2", "former", redis_url=url, **SMALL_STEPS))
        load.wait_for_build(following, "the new version answers")
        assert builds(client) == (following, first, None)
        # Rollbacks, back and forth.
        for live in (first, following) * 3:
            rollback = client.post("/api/projections/patterns/rollback")
            assert (rollback.status_code, rollback.json()["projection"]["live"]) == (200, live)
            load.wait_for_build(live, "the previous build answers")
        # Replay: an API process of the old release must build the live version again, not its own version.
        replay = client.post("/api/projections/patterns/replay", json={"throttle": 2_000})
        assert (replay.status_code, replay.json()["projection"]["building"]) == (202, replayed)
        load.wait_for_build(replayed, "the replayed build answers")
        assert builds(client) == (replayed, following, None)
        # The old release leaves.
        load.leave(client.base_url)
        old.close()
        load.wait_for_results()
        assert builds(new_client) == (replayed, following, None)
        wait_until(lambda: load.sent == PATTERNS, "every pattern is sent")
        wait_until(lambda: len(load.recorded) == PATTERNS, "every pattern is recorded")
    assert load.builds() == [first, following, replayed]
    assert len(load.results) > 500
    for result in load.results:
        check(result, load.recorded)


def post_other_events(client: httpx.Client) -> None:
    """Record events that patterns do not fold."""
    for first in range(0, OTHER_EVENTS, 200):
        post(
            client,
            [
                {"event_type": "backtest_progress", "job_id": f"job-{number}", "progress": 0.5, "status": "processing"}
                for number in range(first, first + 200)
            ],
        )


def builds(client: httpx.Client) -> tuple[str | None, ...]:
    """Read the live build, the previous build and the build in progress of ``patterns``."""
    state = read_model_state(client, "patterns")
    return state["live"], state["previous"], state["building"]
