"""The past as it is asked for: what a page tells is what a plain list of all events would, wherever they are now."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from domain.codec import TOPIC_PREFIX, decode, encode, topic_of
from domain.events import Event
from domain.log import LogEntry
from domain.streams import USERS_LOG, log_of, market_logs
from infra.archive import event_pages
from infra.archive.archiver import Archiver
from infra.archive.event_history import EventHistory
from infra.archive.row_format import ArchivedEvent, attribution
from infra.log.event_log import NewEvent
from infra.log.maintenance import EventToRestore, restore, trim
from infra.postgres.database import Database
from projections.patterns import ActivePatterns, pattern_id
from projections.queries import Positions
from readapi.ports.archive import EventFilter
from tests.archiving import acquire_archiver_lease, archived_log
from tests.events import new_events
from tests.strategies import market_events as any_event
from tests.strategies import pattern_events

LOGS = (*market_logs(4), USERS_LOG)
START = 1_750_000_000
"""Epoch second of the first events, in June; times are drawn from the four months that follow."""

on_servers = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

milliseconds = st.integers(0, 120 * 86_400).map(lambda second: (START + second) * 1_000)
whole_histories = st.lists(
    st.tuples(any_event, milliseconds), min_size=1, max_size=40, unique_by=lambda x: x[0].event_id
)
foreign = st.lists(
    st.tuples(
        st.sampled_from((b"\x00\xff", b"[1]", b'{"source": "tickstock_pl", "correlation_id": "c"}')), milliseconds
    ),
    max_size=4,
)


class Past:
    """Logs whose events were recorded over months, and which are archived and trimmed piece by piece."""

    def __init__(self, redis: Redis, database: Database) -> None:
        redis.flushall()
        with database.connection() as connection:
            connection.execute(
                "TRUNCATE tickview.events, tickview.logs, tickview.segments, tickview.anchors, "
                "tickview.pattern_events, tickview.live_versions"
            )
        self.database = database
        self.logs = {name: archived_log(redis, database, name) for name in LOGS}
        self.trail = EventHistory(database, self.logs)
        self.events: list[ArchivedEvent] = []

    def put(self, entries: Mapping[str, Sequence[tuple[str, str, str, bytes, int]]]) -> None:
        """Give each log these events: stream, topic, id, state, epoch millisecond."""
        for name, wanted in entries.items():
            versions, put_back = Counter[str](), []
            for position, (stream, topic, event_id, state, time) in enumerate(sorted(wanted, key=lambda e: e[-1]), 1):
                versions[stream] += 1
                entry = LogEntry(position, stream, versions[stream], topic, event_id, time / 1_000, state, "http")
                put_back.append(EventToRestore(entry, store_entry=True))
                self.events.append(ArchivedEvent(name, entry, *attribution(state), None))
            restore(self.logs[name], put_back, identity=f"id of {name}")
            self.logs[name].open()
        self.events.sort(key=lambda event: (event.entry.recorded_at, event.log, event.entry.position))

    def archive(self, name: str, count: int) -> None:
        """Archive so many more events of a log, and trim it of some of them."""
        if count:
            archiver = Archiver(self.database, self.logs[name], acquire_archiver_lease(self.database, name), count)
            archiver.step(0)
            trim(self.logs[name], upto=archiver.lease.checkpoint - count // 2, surplus=10**6, oldest=0)


def past_of(redis: Redis, database: Database, history: Sequence[tuple[Event, int]], others: Sequence[Any] = ()) -> Past:
    entries: dict[str, list[tuple[str, str, str, bytes, int]]] = {name: [] for name in LOGS}
    for event, time in history:
        entries[log_of(event.stream, 4)].append(
            (event.stream, topic_of(type(event)), event.event_id, encode(event), time)
        )
    for number, (state, time) in enumerate(others):
        entries[USERS_LOG].append(("user-1", "elsewhere:Thing", f"foreign-{number}", state, time))
    past = Past(redis, database)
    past.put(entries)
    return past


def pages(past: Past, wanted: EventFilter, limit: int, between: Sequence[tuple[str, int]]) -> list[Any]:
    """All pages, with this archiving between them."""
    work = iter(between)
    after: Positions | None = {}
    found: list[Any] = []
    while after is not None:
        page = past.trail.events(wanted, after, limit)
        assert len(page.events) <= limit
        found += page.events
        assert page.next != after, "each page goes on"
        after = page.next
        if step := next(work, None):
            past.archive(*step)
    return found


def without_hash(events: Sequence[Any]) -> list[ArchivedEvent]:
    return [event._replace(hash=None) for event in events]


def oracle(event: ArchivedEvent, wanted: EventFilter) -> bool:
    entry = event.entry
    return (
        wanted.stream in (None, entry.stream)
        and wanted.type in (None, entry.topic.removeprefix(TOPIC_PREFIX))
        and wanted.source in (None, event.source)
        and wanted.event_id in (None, entry.event_id)
        and wanted.correlation_id in (None, event.correlation_id)
        and wanted.log in (None, event.log)
        and (wanted.from_position or 0) <= entry.position
        and (wanted.to_position is None or entry.position <= wanted.to_position)
        and (wanted.from_time or 0) <= entry.recorded_at
        and (wanted.to_time is None or entry.recorded_at < wanted.to_time)
    )


@st.composite
def filters(draw: st.DrawFn, events: Sequence[ArchivedEvent]) -> EventFilter:
    """A few bounds, most of them those of some event of the past."""
    event = draw(st.sampled_from(events))
    other = draw(st.sampled_from(events))
    bounds = {
        "stream": event.entry.stream,
        "type": event.entry.topic.removeprefix(TOPIC_PREFIX),
        "source": event.source,
        "event_id": event.entry.event_id,
        "correlation_id": event.correlation_id,
        "log": event.log,
        "from_position": draw(st.integers(1, 8)),
        "to_position": draw(st.integers(0, 12)),
        "from_time": event.entry.recorded_at,
        "to_time": other.entry.recorded_at,
    }
    window = st.sets(st.sampled_from(("from_time", "to_time", "from_position", "to_position")), min_size=1)
    chosen = draw(st.one_of(window, st.sets(st.sampled_from(sorted(bounds)), max_size=3)))
    return EventFilter(**{name: bounds[name] for name in chosen})  # type: ignore[arg-type]


steps = st.lists(st.tuples(st.sampled_from(LOGS), st.integers(0, 10)), max_size=8)


@on_servers
@given(history=whole_histories, others=foreign, first=steps, between=steps, data=st.data())
def test_paging_tells_what_a_list_of_all_events_would(
    redis: Redis,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    history: Any,
    others: Any,
    first: Any,
    between: Any,
    data: st.DataObject,
) -> None:
    past = past_of(redis, database, history, others)
    for step in first:
        past.archive(*step)
    wanted = data.draw(filters(past.events))
    monkeypatch.setattr(event_pages, "READ_BATCH", data.draw(st.sampled_from((1, 3, 1_000)), label="at once"))
    monkeypatch.setattr(event_pages, "LOG_SCAN_LIMIT", data.draw(st.sampled_from((1, 5, 10_000)), label="tail"))
    found = pages(past, wanted, data.draw(st.integers(1, 7), label="limit"), between)
    assert without_hash(found) == [event for event in past.events if oracle(event, wanted)]


@on_servers
@given(history=whole_histories, limit=st.integers(1, 5), data=st.data())
def test_what_is_recorded_between_two_pages_is_neither_missed_nor_told_twice(
    redis: Redis, database: Database, history: Any, limit: int, data: st.DataObject
) -> None:
    past = past_of(redis, database, history)
    appended: list[Event] = []
    after: Positions | None = {}
    found: list[Any] = []
    while after is not None:
        page = past.trail.events(EventFilter(), after, limit)
        found += page.events
        after = page.next
        more = [] if len(appended) > 10 else data.draw(st.lists(any_event, max_size=2))
        for event in more:
            fresh = event.model_copy(update={"event_id": f"appended-{len(appended)}"})
            past.logs[log_of(event.stream, 4)].append(new_events([fresh]))
            appended.append(fresh)
        past.archive(data.draw(st.sampled_from(LOGS)), data.draw(st.integers(0, 3)))
    told = len(found)
    found += past.trail.events(EventFilter(), reached(found), 1_000).events
    assert told >= len(history)
    assert Counter(event.entry.event_id for event in found) == Counter(
        event.event_id for event in [*(event for event, _ in history), *appended]
    )
    for log in LOGS:
        positions = [event.entry.position for event in found if event.log == log]
        assert positions == list(range(1, len(positions) + 1))


def reached(found: Sequence[Any]) -> Positions:
    return {event.log: event.entry.position for event in found}


@on_servers
@given(
    history=st.lists(
        st.tuples(pattern_events, milliseconds), min_size=1, max_size=30, unique_by=lambda x: x[0].event_id
    ),
    archived=steps,
    sorted_upto=st.integers(0, 30),
    live=st.booleans(),
    limit=st.integers(1, 40),
    data=st.data(),
)
def test_a_pattern_tells_of_the_events_that_spoke_of_it(
    redis: Redis,
    database: Database,
    history: Any,
    archived: Any,
    sorted_upto: int,
    live: bool,
    limit: int,
    data: st.DataObject,
) -> None:
    past = past_of(redis, database, history)
    for step in archived:
        past.archive(*step)
    if live:
        sort_by_detection(database, sorted_upto)
    event = data.draw(st.sampled_from([event for event, _ in history]))
    tier = data.draw(st.sampled_from(("daily", "intraday", "never")))
    wanted = pattern_id(event.symbol, event.pattern, tier, event.detected_at)
    ids = {
        spoke.event_id
        for spoke, _ in history
        if (spoke.symbol, spoke.pattern, spoke.detected_at) == (event.symbol, event.pattern, event.detected_at)
        and spoke.tier in (None, tier)
    }
    expected = [one for one in past.events if one.entry.event_id in ids][:limit]
    assert without_hash(past.trail.of_pattern(wanted, limit)) == expected


def sort_by_detection(database: Database, upto: int) -> None:
    """As the projector of ``pattern_history`` does, of what is archived up to a position of each log."""
    patterns = ActivePatterns()
    with database.connection() as connection:
        connection.execute("INSERT INTO tickview.live_versions VALUES ('pattern_history', 3)")
        connection.execute(
            "INSERT INTO tickview.segments (name, version, log, position) "
            "SELECT 'pattern_history', 3, log, least(position, %s) FROM tickview.segments WHERE name = 'archive'",
            [upto],
        )
        rows = connection.execute(
            "SELECT log, position, recorded_at, event_id, topic, state FROM tickview.events WHERE position <= %s",
            [upto],
        ).fetchall()
        for log, position, recorded_at, event_id, topic, state in rows:
            event: Any = decode(topic, event_id, state)
            detection = patterns.group_of(pattern_id(event.symbol, event.pattern, "any", event.detected_at))
            connection.execute(
                "INSERT INTO tickview.pattern_events VALUES (3, %s, %s, %s, %s)",
                [detection, log, position, recorded_at],
            )


@pytest.mark.parametrize("wanted", ["", "AAPL", "AAPL:Doji:1757001600000"])
def test_what_is_no_pattern_id_is_refused(redis: Redis, database: Database, wanted: str) -> None:
    with pytest.raises(ValueError, match="is not a pattern id"):
        Past(redis, database).trail.of_pattern(wanted, 1)


def test_a_stream_is_known_by_its_events_wherever_they_are(redis: Redis, database: Database) -> None:
    past = Past(redis, database)
    log = past.logs["market-0"]
    log.append([NewEvent("symbol-AAPL", "elsewhere:Thing", b"{}")])
    assert past.trail.has_stream("symbol-AAPL")
    assert not past.trail.has_stream("symbol-AAP")
    past.archive("market-0", 1)
    assert past.trail.has_stream("symbol-AAPL")
    assert not past.trail.has_stream("symbol-AAPL2")


def test_logs_that_the_archive_alone_knows_are_told_of(redis: Redis, database: Database) -> None:
    past = Past(redis, database)
    past.logs["market-3"].append([NewEvent("symbol-AAPL", "elsewhere:Thing", b"{}", "only")])
    past.archive("market-3", 1)
    alone = EventHistory(database, {"market-0": past.logs["market-0"]})
    [event] = alone.events(EventFilter(), {}, 10).events
    assert (event.log, event.entry.event_id) == ("market-3", "only")
    assert event.hash is not None
