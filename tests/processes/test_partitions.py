"""``tickview partitions`` while all roles run under load: a killed raise, a killed recorder, and a replay across it."""

import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from threading import Event
from typing import Any

import httpx
import orjson
from redis import Redis

from domain.partitions import Partitions
from domain.streams import log_of, symbol_stream
from domain.wire import INGEST_STREAM, PATTERNS
from infra.cli import main
from infra.log import directory
from infra.log.event_log import EventLog
from infra.log.handle import LogHandle
from infra.log.partitions import seal
from infra.postgres.database import Database
from tests.processes.api_service import api, detection, post
from tests.processes.archiving_service import wait_until_archived
from tests.processes.roles import (
    environment_of,
    killed_role,
    run_to_end,
    running_role,
    tickview,
    tickview_json,
    wait_until,
)
from tests.threads import running_threads

OLD = [f"OLD{number}" for number in range(6)]
"""Symbols that are detected from the beginning, again and again."""


def killed_command() -> None:
    """Run a command that is killed before its third seal."""
    seals = count(1)

    def seal_or_die(log: LogHandle, partitions: Partitions) -> None:
        if next(seals) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        seal(log, partitions)

    directory.SEALS_AT_ONCE = 1
    directory.seal = seal_or_die
    main()


class Load:
    """Producers over HTTP, which wait for each answer and read what they wrote, and to the ingest stream."""

    def __init__(self, client: httpx.Client, redis: Redis) -> None:
        self._client = client
        self._redis = redis
        self._started, self._moments = int(time.time()), count()
        self.posted: dict[str, list[str]] = defaultdict(list)
        """Stream -> the ids of its events in the order of sending."""
        self.added: set[str] = set()
        """The ids of the events in the ingest stream."""
        self.failures: list[str] = []
        self.rounds = 0

    def run(self, stop: Event) -> None:
        while not stop.is_set() and not self.failures:
            try:
                self._send(self.rounds)
            except (AssertionError, httpx.HTTPError) as error:
                self.failures.append(repr(error))
            self.rounds += 1

    def _send(self, number: int) -> None:
        symbols = [*OLD, f"NEW{number}", f"NEW{number // 2}"]
        messages = [self._message(symbol, f"post-{number}-{place}") for place, symbol in enumerate(symbols)]
        for symbol, message in zip(symbols, messages, strict=True):
            self.posted[symbol_stream(symbol)].append(message["event_id"])
        headers = post(self._client, messages)
        scan = self._client.get("/api/patterns/scan", params={"symbols": f"NEW{number}"}, headers=headers)
        assert scan.status_code == 200, scan.text
        assert scan.json()["pagination"]["total"] >= 1
        for symbol in (f"ADD{number % 20}", f"ADDNEW{number}"):
            message = self._message(symbol, f"add-{number}-{symbol}")
            self.added.add(message["event_id"])
            self._redis.xadd(INGEST_STREAM, {"channel": PATTERNS, "payload": orjson.dumps(message)})

    def _message(self, symbol: str, event_id: str) -> dict[str, Any]:
        # Detections at different moments are different patterns.
        moment = self._started - next(self._moments)
        return {**detection(symbol, timestamp=moment), "event_id": event_id}

    @contextmanager
    def running(self) -> Iterator[None]:
        with running_threads([self.run]):
            yield
        assert self.failures == []

    def wait_for_rounds(self, number: int) -> None:
        wanted = self.rounds + number
        wait_until(lambda: self.failures or self.rounds >= wanted, f"{number} rounds of messages")


def events_by_stream(redis: Redis, partitions: int) -> dict[str, tuple[str, list[str]]]:
    """Return the log and the event ids of each stream. Assert that no stream is in two logs."""
    streams: dict[str, tuple[str, list[str]]] = {}
    for name in Partitions.of(partitions).names:
        for entry in EventLog(redis, name).read(0, 100_000):
            log, ids = streams.setdefault(entry.stream, (name, []))
            assert log == name
            ids.append(entry.event_id)
            assert entry.version == len(ids)
    return streams


def test_a_killed_raise_under_load_is_finished_and_a_replay_across_it_differs_in_no_row(
    redis: Redis, redis_url: str, database: Database
) -> None:
    settings = {"redis_url": redis_url, "postgres_dsn": database.dsn}
    roles = {**settings, "lease_seconds": 2, "partitions": 2}
    with ExitStack() as stack:
        for role in ("archive", "project", "record"):
            stack.enter_context(running_role(role, **roles))
        client = stack.enter_context(api(**roles, wait_seconds=30, api_processes=1))
        load = Load(client, redis)
        with load.running():
            load.wait_for_rounds(5)
            with killed_role("record", **roles):
                killed = run_to_end(killed_command, ("partitions", "raise", "5"), environment_of(redis_url, roles))
                assert killed.returncode == -signal.SIGKILL, killed.stderr
                load.wait_for_rounds(10)
            # The recorders have finished the raise. A repetition of the command finds nothing to do.
            shown = tickview_json("partitions", "show", **settings)
            raised = tickview_json("partitions", "raise", "5", **roles)
            load.wait_for_rounds(10)
        for state in (shown, raised):
            assert (state["partitions"], state["created_with"]) == (5, 2)
            assert [log["sealed"] for log in state["logs"]] == ["2-5"] * 5
        recorded = {event_id for ids in load.posted.values() for event_id in ids} | load.added

        def all_recorded() -> bool:
            return sum(len(ids) for _, ids in events_by_stream(redis, 5).values()) >= len(recorded)

        wait_until(all_recorded, "every message is recorded")
        streams = events_by_stream(redis, 5)
        assert sorted(event_id for _, ids in streams.values() for event_id in ids) == sorted(recorded)
        assert {stream: streams[stream][1] for stream in load.posted} == load.posted
        assert {streams[symbol_stream(symbol)][0] for symbol in OLD} <= {"market-0", "market-1"}
        last = [symbol_stream(f"NEW{load.rounds - number}") for number in range(1, 9)]
        assert [streams[stream][0] for stream in last] == [log_of(stream, 5) for stream in last]

        replayed = tickview_json("replay", "patterns", "--verify", **settings)
        assert (replayed["live"], replayed["differences"]) == (True, 0)
        expected = sum(len(ids) for _, ids in streams.values())
        every = {"confidence_min": 0, "per_page": 1}
        wait_until(
            lambda: client.get("/api/patterns/scan", params=every).json()["pagination"]["total"] == expected,
            "the scan has every pattern of all partitions",
        )
        moment = time.time()
        wait_until_archived(client)
        past = client.get("/api/patterns/scan", params={**every, "as_of": moment})
        assert past.json()["pagination"]["total"] == expected, past.text
        new = last[0].removeprefix("symbol-")
        [shown] = client.get("/api/patterns/scan", params={"symbols": new}).json()["patterns"][:1]
        history = client.get(f"/api/patterns/{shown['id']}").json()["events"]
        assert {event["log"] for event in history} == {streams[last[0]][0]}
        verified = tickview_json("audit", "verify", **settings)
        assert {log["log"] for log in verified["logs"]} >= set(Partitions.of(5).names)
        lowered = tickview("partitions", "raise", "4", **settings)
        assert lowered.returncode == 1
        assert b"cannot be lowered to 4" in lowered.stderr


def test_the_partitions_of_an_unused_log_cannot_be_raised(redis_url: str) -> None:
    refused = tickview("partitions", "raise", "8", redis_url=redis_url)
    assert refused.returncode == 1
    assert b"The market log is not in use yet." in refused.stderr


def test_partitions_are_shown_as_a_table(redis: Redis, redis_url: str) -> None:
    EventLog(redis, "market-0").open()
    redis.hset("tickview:logs", "market", "2")
    shown = tickview("partitions", "show", redis_url=redis_url)
    assert [line.split() for line in shown.stdout.decode().splitlines()] == [
        ["log", "position", "streams", "sealed"],
        ["market-0", "0", "0"],
        ["market-1", "0", "0"],
    ]
    raised = tickview("partitions", "raise", "3", redis_url=redis_url)
    assert raised.stdout.startswith(b"The market log had 2 partitions, and now has 3.\n"), raised.stderr
