"""Scans without pause through a deploy, a way back and a replay: no request fails, no answer is of two builds.

Version 2 of ``patterns`` keeps confidences to one decimal (``release.py``), so that an answer shows which version it is
from. Meanwhile patterns go on being announced, and every answer is held to the position that it claims.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Event
from typing import NamedTuple

import httpx

from tests.processes.api_service import TIMEOUT_SECONDS, api, detection, post
from tests.processes.release import running_release
from tests.processes.roles import wait_until

CONNECTIONS = 3

SMALL_STEPS = {"lease_seconds": 0.4, "fold_batch": 20}
"""Settings of the workers. The batches are small, so that a switch takes several commits."""

BEFORE, MOST = 60, 100
"""Patterns announced before the load, and in all: as many as one page has."""

FOREIGN = 3_000
"""Other events in the log, which make a build last."""

BOUND = 0.78
"""A confidence between those that the versions make of 0.76."""

SCANS = {
    "/api/patterns/scan?per_page=100&fields=full&confidence_min=0": 0.0,
    "/api/patterns/scan?per_page=100&fields=full&sort_by=symbol&confidence_min=0": 0.0,
    f"/api/patterns/scan?per_page=100&fields=full&confidence_min={BOUND}": BOUND,
}
"""What is asked, and the lowest confidence of what may be answered."""


class Announced(NamedTuple):
    """A pattern in the log."""

    log: str
    position: int
    confidence: float


class Answer(NamedTuple):
    """What one scan was given."""

    lowest: float
    response: httpx.Response
    announced_before_it_came: int


class Load:
    """Connections that scan without pause, and one that announces patterns and reads them back."""

    def __init__(self, client: httpx.Client) -> None:
        self._url = client.base_url
        self._stop = Event()
        self.announced: dict[str, Announced] = {}
        self.begun = 0
        """Patterns whose announcement has been sent, at least."""
        self.answers: list[Answer] = []

    def announce(self, client: httpx.Client) -> None:
        """One pattern more, read back at once, whichever build answers."""
        symbol, confidence = f"S{self.begun:03}", 0.71 + self.begun % 29 / 100
        self.begun += 1
        header = post(client, [detection(symbol, confidence=confidence)])
        log, _, position = header["TickView-Min-Position"].partition("=")
        self.announced[symbol] = Announced(log, int(position), round(confidence, 2))
        read = client.get(f"/api/patterns/scan?symbols={symbol}", headers=header)
        assert read.status_code == 200, read.text
        assert [row["symbol"] for row in read.json()["patterns"]] == [symbol]

    def scan(self) -> None:
        """Ask the same few scans over and over."""
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_SECONDS) as client:
            for number in count():
                path, lowest = list(SCANS.items())[number % len(SCANS)]
                response = client.get(path)
                self.answers.append(Answer(lowest, response, self.begun))
                if self._stop.is_set():
                    return

    def write(self) -> None:
        """Announce until there are enough."""
        with httpx.Client(base_url=self._url, timeout=TIMEOUT_SECONDS) as client:
            while self.begun < MOST and not self._stop.wait(0.1):
                self.announce(client)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Under load; a thread's failure is raised at the end."""
        with ThreadPoolExecutor(CONNECTIONS + 1) as threads:
            futures: list[Future[None]] = [threads.submit(self.write)]
            futures += [threads.submit(self.scan) for _ in range(CONNECTIONS)]
            try:
                yield
            finally:
                self._stop.set()
        for future in futures:
            future.result()

    def builds(self) -> list[str]:
        """The builds that have answered, in the order in which they did first."""
        return list(dict.fromkeys(answer.response.json()["cache_info"]["build"] for answer in list(self.answers)))

    def answered_by(self, build: str) -> Callable[[], bool]:
        """Whether the last answers were all from this build."""

        def answered() -> bool:
            last = self.answers[-10 * CONNECTIONS :]
            return len(last) == 10 * CONNECTIONS and all(
                answer.response.json()["cache_info"]["build"] == build for answer in last
            )

        return answered


def shown(confidence: float, version: int) -> float:
    """What a version makes of an announced confidence."""
    return round(confidence, 1) if version == 2 else confidence


def check(answer: Answer, announced: dict[str, Announced], names: list[str]) -> None:
    """The answer is exactly what the build it names has: nothing is missing that it claims to know."""
    response = answer.response
    assert response.status_code == 200, response.text
    content = response.json()
    version = content["cache_info"]["version"]
    assert content["cache_info"]["build"].startswith(f"{version}.")
    rows = {row["symbol"]: round(row["confidence"], 2) for row in content["patterns"]}
    assert content["pagination"]["total"] == len(rows) == len(content["patterns"])
    claimed = {
        log: int(position)
        for log, _, position in (pair.partition("=") for pair in response.headers["TickView-Position"].split(","))
    }
    expected = {
        name: shown(one.confidence, version)
        for name, one in announced.items()
        if shown(one.confidence, version) >= answer.lowest
    }
    known = {name for name, one in announced.items() if one.position <= claimed[one.log]}
    assert rows.items() <= expected.items()
    assert rows.keys() >= known & expected.keys()
    assert rows.keys() <= set(names[: answer.announced_before_it_came])


def test_every_answer_is_of_the_build_it_names(redis_url: str) -> None:
    with ExitStack() as stack:
        stack.enter_context(running_release("1", redis_url=redis_url, **SMALL_STEPS))
        client = stack.enter_context(api(redis_url, wait_seconds=30))
        load = Load(client)
        for _ in range(BEFORE):
            load.announce(client)
        post_foreign(client)
        stack.enter_context(load.running())
        wait_until(load.answered_by("1.1"), "the first build answers")
        # A deploy: the new release builds its version beside the old one's.
        stack.enter_context(running_release("2", "former", redis_url=redis_url, **SMALL_STEPS))
        wait_until(load.answered_by("2.2"), "the new version answers")
        assert builds(client) == ("2.2", "1.1", None)
        # A way back, and forward again, a few times.
        for live in ("1.1", "2.2") * 3:
            told = client.post("/api/projections/patterns/rollback")
            assert (told.status_code, told.json()["projection"]["live"]) == (200, live)
            wait_until(load.answered_by(live), "the previous build answers")
        # A replay, asked of an API process of the old release: of the live version, not back to its own.
        told = client.post("/api/projections/patterns/replay", json={"throttle": 2_000})
        assert (told.status_code, told.json()["projection"]["building"]) == (202, "2.3")
        wait_until(load.answered_by("2.3"), "the replayed build answers")
        assert builds(client) == ("2.3", "2.2", None)
        wait_until(lambda: load.begun == MOST, "everything is announced")
        wait_until(lambda: len(load.announced) == MOST, "everything is recorded")
    assert load.builds() == ["1.1", "2.2", "2.3"]
    assert len(load.answers) > 500
    for answer in load.answers:
        check(answer, load.announced, list(load.announced))


def post_foreign(client: httpx.Client) -> None:
    """Events that patterns do not know of."""
    for first in range(0, FOREIGN, 1_000):
        post(
            client,
            [
                {"event_type": "backtest_progress", "job_id": f"job-{number}", "progress": 0.5, "status": "processing"}
                for number in range(first, first + 1_000)
            ],
        )


def builds(client: httpx.Client) -> tuple[str | None, ...]:
    """The live, the previous and the build under way of ``patterns``, as the service tells them."""
    [model] = [one for one in client.get("/api/projections").json()["projections"] if one["name"] == "patterns"]
    return model["live"], model["previous"], model["building"]
