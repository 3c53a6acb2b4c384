"""Producers on all three ways in, with duplicates, reordering and rubbish. They note what the service acknowledged."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

import httpx
from redis import RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.redis_servers import SERVER_ERRORS, RedisServers
from tests.chaos.sent import Attempt, Sent
from tests.plain_http import PLAIN_HTTP

CHANNEL = "tickstock.events.patterns"
STREAM = "tickstock.ingest"
BEGINNING = 1_790_000_000.0
RETRY_SECONDS = 0.2


class Producer:
    """A producer that sends messages on one way until it is stopped, each again until it is acknowledged.

    Args:
        name: The prefix of all event ids of this producer.
        seed: The seed of all choices.
        send: Sends a message. Returns whether the service has acknowledged it.
        sent: Where the producer notes its messages.
    """

    def __init__(self, name: str, seed: int, send: Callable[[str], bool], sent: Sent) -> None:
        self._name = name
        self._chance = random.Random(f"{seed} {name}")
        self._send = send
        self._sent = sent
        self._number = 0
        self._detections: list[tuple[str, float]] = []

    def run(self, stop: Event) -> None:
        """Send until ``stop`` is set."""
        held: list[tuple[str, str | None]] = []
        while not stop.is_set():
            held.append(self._message())
            # Messages overtake each other.
            if len(held) > 3:
                payload, event_id = held.pop(self._chance.randrange(len(held)))
                for _ in range(2 if self._chance.random() < 0.1 else 1):
                    self._deliver(payload, event_id, stop)
            stop.wait(self._chance.uniform(0, 0.02))

    def _deliver(self, payload: str, event_id: str | None, stop: Event) -> None:
        began = time.time()
        while not self._send(payload):
            if stop.wait(RETRY_SECONDS):
                return
            began = time.time()
        attempt = Attempt(began, time.time())
        if event_id is None:
            self._sent.rubbish[payload] = attempt
        else:
            self._sent.events[event_id] = attempt

    def _message(self) -> tuple[str, str | None]:
        """Return a message and the id of its event, or None for rubbish."""
        self._number += 1
        identity = f"{self._name}-{self._number}"
        if self._chance.random() < 0.02:
            return json.dumps({"event_type": "pattern_detected", "data": {"symbol": "", "note": identity}}), None
        if self._detections and self._chance.random() < 0.3:
            symbol, detected_at = self._chance.choice(self._detections)
            event_type, occurred_at = "pattern_updated", detected_at + self._chance.randrange(1, 10**6) / 1_000
        else:
            symbol, detected_at = f"S{self._chance.randrange(20)}", BEGINNING + self._chance.randrange(10**9) / 1_000
            self._detections.append((symbol, detected_at))
            event_type, occurred_at = "pattern_detected", detected_at
        data = {
            "symbol": symbol,
            "pattern": "Doji",
            "confidence": self._chance.randrange(101) / 100,
            "detected_at": detected_at,
            "source": "daily",
        }
        message = {"event_id": identity, "event_type": event_type, "timestamp": occurred_at, "source": self._name}
        return json.dumps({**message, "data": data}), identity


def post(client: httpx.Client, payload: str) -> bool:
    """Send a message over HTTP. 201 and 422 acknowledge an event and a dead letter."""
    try:
        status = client.post("/api/events", content=payload, headers={"Content-Type": "application/json"}).status_code
    except httpx.TransportError:
        return False
    assert status in (201, 422, 503), status
    return status != 503


def add_to_stream(servers: RedisServers, client: Any, payload: str) -> bool:
    """Add a message to the ingest stream."""
    try:
        servers.add_to_stream(client, STREAM, {"channel": CHANNEL, "payload": payload})
    except SERVER_ERRORS:
        return False
    return True


def publish(client: Any, chance: random.Random, payload: str) -> None:
    """Publish a message, in a cluster at any primary."""
    if isinstance(client, RedisCluster):
        client = client.get_redis_connection(chance.choice(client.get_primaries()))
    client.publish(CHANNEL, payload)


class Publisher(Producer):
    """A producer over pub/sub. Nobody knows whether a recorder hears its messages."""

    def __init__(self, name: str, seed: int, client: Any, sent: Sent) -> None:
        super().__init__(name, seed, lambda _: True, sent)
        self._client = client

    def _deliver(self, payload: str, event_id: str | None, stop: Event) -> None:
        began = time.time()
        try:
            publish(self._client, self._chance, payload)
        except SERVER_ERRORS:
            stop.wait(RETRY_SECONDS)
            self._read_nodes()
            return
        if event_id is not None:
            self._sent.published[event_id] = Attempt(began, time.time())

    def _read_nodes(self) -> None:
        if isinstance(self._client, RedisCluster):
            with suppress(*SERVER_ERRORS):
                self._client.nodes_manager.initialize()


@contextmanager
def producers(api_url: str, servers: RedisServers, seed: int, sent: Sent) -> Iterator[list[Producer]]:
    """Yield a producer for each way in. They note their messages in ``sent``."""
    with (
        httpx.Client(base_url=api_url, timeout=15, verify=PLAIN_HTTP) as http,
        servers.client(socket_timeout=5, retry=Retry(NoBackoff(), 0)) as redis,
    ):
        yield [
            Producer("http", seed, lambda payload: post(http, payload), sent),
            Producer("stream", seed, lambda payload: add_to_stream(servers, redis, payload), sent),
            Publisher("pubsub", seed, redis, sent),
        ]
