"""The load of a soak: events on two ways at a steady rate, scans, and clients of live push."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

import httpx
from redis import Redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

CHANNEL = "tickstock.events.patterns"
STREAM = "tickstock.ingest"

SYMBOLS = 500
LIFE_SECONDS = 60.0
"""Seconds until a pattern ends, so that the number of rows stays bounded."""

INTERVAL_SECONDS = 0.1
"""Seconds between two batches of a producer."""

PUSH_CLIENTS = 10


@dataclass
class Totals:
    """What the load has done so far."""

    posted: int = 0
    added: int = 0
    refused: int = 0
    """Batches that the API refused because its intake was full. They were sent again."""
    scans: int = 0
    pushed: int = 0
    slowest_scan: float = 0.0
    """Seconds of the slowest scan since the last sample."""


class Load:
    """A load whose rate can change.

    Args:
        api_url: The address of the API.
        redis_url: The address of Redis.
        rate: Events per second on each of the two ways.
    """

    def __init__(self, api_url: str, redis_url: str, rate: int) -> None:
        self.rate = rate
        self.totals = Totals()
        self._api_url = api_url
        self._redis_url = redis_url
        self._stop = Event()
        self._numbers = {"http": 0, "stream": 0}

    def _messages(self, way: str) -> list[str]:
        count = max(1, round(self.rate * INTERVAL_SECONDS))
        first = self._numbers[way]
        self._numbers[way] += count
        return [_message(f"{way}-{number}", number) for number in range(first, first + count)]

    def _pace(self, work: Callable[[], None], seconds: float) -> None:
        """Do the work in every interval. If it takes longer, the next begins at once: the sender is slowed down."""
        while not self._stop.is_set():
            began = time.monotonic()
            work()
            self._stop.wait(max(0.0, seconds - (time.monotonic() - began)))

    def _post(self) -> None:
        with httpx.Client(base_url=self._api_url, timeout=30) as client:

            def post() -> None:
                messages = self._messages("http")
                body = "[" + ",".join(messages) + "]"
                while True:
                    status = client.post(
                        "/api/events", content=body, headers={"Content-Type": "application/json"}
                    ).status_code
                    if status != 503:
                        assert status == 201, status
                        self.totals.posted += len(messages)
                        return
                    self.totals.refused += 1
                    if self._stop.wait(INTERVAL_SECONDS):
                        return

            self._pace(post, INTERVAL_SECONDS)

    def _add(self) -> None:
        with Redis.from_url(self._redis_url) as client:

            def add() -> None:
                messages = self._messages("stream")
                with client.pipeline(transaction=False) as pipeline:
                    for message in messages:
                        pipeline.xadd(STREAM, {"channel": CHANNEL, "payload": message})
                    pipeline.execute()
                self.totals.added += len(messages)

            self._pace(add, INTERVAL_SECONDS)

    def _scan(self) -> None:
        with httpx.Client(base_url=self._api_url, timeout=30) as client:

            def scan() -> None:
                began = time.monotonic()
                parameters = {"confidence_min": self.totals.scans % 100 / 100, "per_page": 50}
                assert client.get("/api/patterns/scan", params=parameters).status_code == 200
                self.totals.scans += 1
                self.totals.slowest_scan = max(self.totals.slowest_scan, time.monotonic() - began)

            self._pace(scan, 0.05)

    def _listen(self) -> None:
        url = self._api_url.replace("http://", "ws://") + "/ws"
        while not self._stop.is_set():
            with suppress(ConnectionClosed, OSError), connect(url, max_size=None) as connection:
                while not self._stop.is_set():
                    with suppress(TimeoutError):
                        connection.recv(timeout=1)
                        self.totals.pushed += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the load until the context ends."""
        works = [self._post, self._add, self._scan, *[self._listen] * PUSH_CLIENTS]
        threads = [Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()


def _message(identity: str, number: int) -> str:
    now = time.time()
    data = {
        "symbol": f"S{number % SYMBOLS}",
        "pattern": "Doji",
        "confidence": number % 101 / 100,
        "detected_at": now + number % 1_000 / 1_000_000,
        "expires_at": now + LIFE_SECONDS,
        "source": "daily",
    }
    return json.dumps({"event_id": identity, "event_type": "pattern_detected", "timestamp": now, "data": data})
