"""The oracle: it reads the stored data by plain commands, folds the events by its own rules, and compares."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import psycopg

from tests.chaos.list_owners import ListOwner
from tests.chaos.producers import STREAM
from tests.chaos.sent import Sent

LOGS = [f"market-{number}" for number in range(4)]

Logs = Mapping[str, list[dict[str, Any]]]
"""The events of each log, in order."""

LOST = "domain.events:PositionLost"
"""The topic of an event in the place of a lost event, so that its position is not given out again."""

ALL = {"confidence_min": 0}
"""Parameters of a scan without its default filter."""

SETTLE_SECONDS = 90.0
"""Seconds within which the service catches up after the last fault."""

STALL_SECONDS = 10.0
"""Seconds of a stall after which health must not be ``healthy``."""


@dataclass(frozen=True)
class Sample:
    """An answer of the API during the chaos."""

    moment: float
    """Monotonic time before the request."""
    health: str | None
    """The status, or None if the API did not answer."""
    positions: Mapping[str, int] | None = None
    """The positions that a scan named, and the total that it told."""
    total: int = 0


class Stall(NamedTuple):
    """A time in which work was waiting, and none was done."""

    work: str
    began: float
    """Monotonic time."""
    ended: float

    @property
    def seconds(self) -> float:
        """The duration."""
        return self.ended - self.began


def take_sample(client: httpx.Client) -> Sample:
    """Ask for the health, and scan."""
    moment = time.monotonic()
    health: str | None = None
    try:
        health = client.get("/api/health").json()["status"]
        scan = client.get("/api/patterns/scan", params={**ALL, "per_page": 1})
        if scan.status_code == 200:
            names = scan.headers["TickView-Position"].split(",")
            positions = {log: int(position) for log, position in (name.split("=") for name in names)}
            return Sample(moment, health, positions, scan.json()["pagination"]["total"])
    except (httpx.TransportError, ValueError):
        pass
    return Sample(moment, health)


def wait_until_settled(client: httpx.Client, redis: Any) -> None:
    """Wait until the service is healthy, and has recorded, folded and archived everything."""
    deadline = time.monotonic() + SETTLE_SECONDS
    health: Any = None
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError, KeyError, TypeError):
            health = client.get("/api/health").json()
            lags = [model["lag_events"] for model in health["read_models"].values()]
            lags += [log["lag_events"] for log in health["archive"]["logs"].values()]
            models = client.get("/api/projections").json()["projections"]
            builds = [model for model in models if model["building_version"] is not None]
            if health["status"] == "healthy" and not any(lags) and not builds and not redis.xlen(STREAM):
                return
        time.sleep(0.2)
    raise AssertionError(f"the service has not settled within {SETTLE_SECONDS:g} s: {health}")


def wait_until_shown(client: httpx.Client, logs: Logs) -> None:
    """Wait until the API answers with all events. It may still wait for a connection that delivers nothing."""
    positions = ",".join(f"{log}={len(events)}" for log, events in logs.items())
    deadline = time.monotonic() + SETTLE_SECONDS
    for path in ("/api/patterns/scan", "/api/read-models/activity"):
        while (answer := client.get(path, headers={"TickView-Min-Position": positions})).status_code != 200:
            assert time.monotonic() < deadline, answer.text


def read_logs(redis: Any) -> Logs:
    """Return the events of each log, in order, and check that positions have no gaps."""
    logs = {}
    for log in LOGS:
        entries: Any = redis.xrange(f"tickview:{{{log}}}:log")
        assert [identity for identity, _ in entries] == [b"%d-0" % position for position in range(1, len(entries) + 1)]
        logs[log] = [
            {"id": fields[b"event_id"].decode(), "topic": fields[b"topic"].decode(), **json.loads(fields[b"state"])}
            for _, fields in entries
        ]
    return logs


def check_events(logs: Logs, sent: Sent) -> None:
    """Check that every acknowledged event is in the logs, and no event twice."""
    numbers = Counter(event["id"] for events in logs.values() for event in events)
    missing = {identity: sent.events[identity] for identity in sent.events_to_find() - numbers.keys()}
    assert not missing, f"{len(missing)} acknowledged events are lost: {dict(sorted(missing.items())[:5])}"
    doubled = [identity for identity, number in numbers.items() if number > 1]
    assert not doubled, f"{len(doubled)} events are doubled: {doubled[:5]}"


def check_gaps(logs: Logs, sent: Sent, redis: Any) -> None:
    """Check that every published event that was not heard lies in a stored gap."""
    recorded = {event["id"] for events in logs.values() for event in events}
    entries: Any = redis.xrange("tickview:intake:gaps")
    gaps = [json.loads(fields[b"gap"]) for _, fields in entries]
    for identity, (before, after) in sent.published_to_explain().items():
        if identity in recorded:
            continue
        covered = any(gap["began_at"] <= after and before <= gap["ended_at"] for gap in gaps)
        assert covered, f"{identity} was published from {before} to {after} and lost without a gap: {gaps}"


def check_archive(logs: Logs, dsn: str) -> None:
    """Check that the archive has exactly the events of the logs."""
    with psycopg.connect(dsn) as connection:
        for log, events in logs.items():
            rows = connection.execute(
                "SELECT position, event_id FROM tickview.events WHERE log = %s ORDER BY position", [log]
            ).fetchall()
            assert rows == [(position, event["id"]) for position, event in enumerate(events, 1)], log


def check_dead_letters(client: httpx.Client, sent: Sent) -> None:
    """Check that every message that cannot be read is a dead letter."""
    payloads: set[str] = set()
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/api/dead-letters", params={"limit": 100, **cursor}).json()
        for letter in page["dead_letters"]:
            payloads.add(client.get(f"/api/dead-letters/{letter['id']}").json()["dead_letter"]["payload"])
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    # Over HTTP, the stored payload is the JSON of the message, which may be formatted in another way.
    stored = {json.dumps(json.loads(payload), sort_keys=True) for payload in payloads}
    expected = {json.dumps(json.loads(payload), sort_keys=True) for payload in sent.rubbish_to_find()}
    assert expected <= stored, f"{len(expected - stored)} messages are lost"


def fold(events: list[dict[str, Any]]) -> dict[tuple[str, float], float]:
    """Return the confidence of each pattern. The latest announcement counts, the later of two in the log if equal."""
    rows: dict[tuple[str, float], tuple[float, float]] = {}
    for event in events:
        if event["topic"] == LOST:
            continue
        key = event["symbol"], round(event["detected_at"], 3)
        if key not in rows or event["occurred_at"] >= rows[key][0]:
            rows[key] = event["occurred_at"], event["confidence"]
    return {key: confidence for key, (_, confidence) in rows.items()}


def check_read_model(client: httpx.Client, logs: Logs) -> None:
    """Check that rows, indexes and counts equal those of the oracle's fold."""
    expected = fold([event for events in logs.values() for event in events])
    found: dict[tuple[str, float], float] = {}
    parameters: dict[str, Any] = {**ALL, "per_page": 100, "fields": "full", "sort_by": "confidence"}
    while True:
        page = client.get("/api/patterns/scan", params=parameters).json()
        found |= {(row["symbol"], round(row["detected_at"], 3)): row["confidence"] for row in page["patterns"]}
        if page["next"] is None:
            break
        parameters["cursor"] = page["next"]
    assert found == expected
    symbols = Counter(symbol for symbol, _ in expected)
    for symbol, number in symbols.items():
        total = client.get("/api/patterns/scan", params={**ALL, "symbols": symbol}).json()["pagination"]["total"]
        assert total == number, symbol
    strong = sum(1 for confidence in expected.values() if confidence >= 0.5)
    filtered = client.get("/api/patterns/scan", params={"confidence_min": 0.5}).json()
    assert filtered["pagination"]["total"] == strong
    counted = client.get("/api/read-models/patterns/counts/all").json()
    assert counted["total"] == len(expected)


def check_activity(client: httpx.Client, logs: Logs) -> None:
    """Check the numbers of events, which an event that is folded twice would change for ever."""
    expected = Counter(event["topic"].rpartition(":")[2] for events in logs.values() for event in events)
    rows = client.get("/api/read-models/activity", params={"per_page": 100}).json()["rows"]
    found: Counter[str] = Counter()
    for row in rows:
        found[row["event_type"]] += row["events"]
    assert found == expected


def check_stored_indexes(redis: Any, logs: Logs) -> None:
    """Check the rows, the index and the counts of the patterns in Redis, log by log."""
    build = json.loads(str(redis.get("tickview:{patterns}:versions").decode()))["live"]  # type: ignore[union-attr]
    for log, events in logs.items():
        prefix, expected = f"tickview:{{patterns/{log}}}:{build}:", fold(events)
        ids = {f"{symbol}:Doji:daily:{moment * 1_000:.0f}": each for (symbol, moment), each in expected.items()}
        assert {key.decode() for key in redis.hkeys(prefix + "rows")} == ids.keys(), log
        index: Any = redis.zrange(prefix + "index:confidence", 0, -1, withscores=True)
        assert {key.decode(): score for key, score in index} == ids, log
        counts: Any = redis.zrange(prefix + "count:by_symbol", 0, -1, withscores=True)
        symbols = Counter(symbol for symbol, _ in expected)
        assert {symbol.decode(): number for symbol, number in counts} == symbols, log


def check_lists(owners: Iterable[ListOwner], sent: Sent) -> None:
    """Check that every user reads the last change of the list, and has never read anything else."""
    for owner in owners:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not owner.check():
            assert time.monotonic() < deadline, "a list cannot be read"
    assert not sent.faults


def check_samples(samples: list[Sample], logs: Logs) -> None:
    """Check that each scan told at least the patterns up to the positions that it named, and no pattern too many."""
    final = sum(len(fold(events)) for events in logs.values())
    for sample in samples:
        if sample.positions is not None:
            named = sum(len(fold(logs[log][:position])) for log, position in sample.positions.items())
            assert named <= sample.total <= final, (
                f"{named} patterns are in the named positions, {final} in all: {sample}"
            )


def check_health(samples: list[Sample], stalls: Iterable[Stall]) -> None:
    """Check that the service was never ``healthy`` later than ten seconds after the beginning of a stall."""
    for stall in stalls:
        told = [sample for sample in samples if stall.began + STALL_SECONDS < sample.moment < stall.ended]
        assert told or stall.seconds < STALL_SECONDS + 2, "no sample was taken during a stall"
        wrong = sum(sample.health == "healthy" for sample in told)
        assert not wrong, f"{wrong} of {len(told)} times healthy during a stall of {stall.seconds:.1f} s: {stall.work}"
