"""The event history on real servers: events are read from logs and from the archive, and equal a list of all events."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

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
from infra.log.append import NewEvent
from infra.log.maintenance import EventToRestore, log_state, restore, trim
from infra.postgres.database import Database
from projections.patterns import ActivePatterns, pattern_id
from projections.queries import Positions
from readapi.ports.archive import EventFilter
from tests.archiving import acquire_archiver_lease, archived_log
from tests.events import new_events
from tests.row_history import clear_archive
from tests.strategies import market_events, pattern_events

LOGS = (*market_logs(4), USERS_LOG)
START = 1_750_000_000
"""Epoch second of the first event, in June 2025. The other events follow within four months."""

on_servers = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

TimedEvent = tuple[Event, int]
"""An event and the epoch millisecond of its recording."""
TimedState = tuple[bytes, int]
"""The state of another application's event and the epoch millisecond of its recording."""
ArchivingStep = tuple[str, int]
"""A log and the number of its events to archive."""

milliseconds = st.integers(0, 120 * 86_400).map(lambda second: (START + second) * 1_000)


def timed_events(events: st.SearchStrategy[Event], max_size: int) -> st.SearchStrategy[list[TimedEvent]]:
    """Draw events with different ids and the times of their recording."""
    return st.lists(
        st.tuples(events, milliseconds), min_size=1, max_size=max_size, unique_by=lambda timed: timed[0].event_id
    )


foreign_states: st.SearchStrategy[list[TimedState]] = st.lists(
    st.tuples(
        st.sampled_from((b"\x00\xff", b"[1]", b'{"source": "tickstock_pl", "correlation_id": "c"}')), milliseconds
    ),
    max_size=4,
)
archiving_steps = st.lists(st.tuples(st.sampled_from(LOGS), st.integers(0, 10)), max_size=8)


class RecordedLogs:
    """Logs whose events were recorded over months, and which are archived and trimmed step by step."""

    def __init__(self, redis: Redis, database: Database) -> None:
        redis.flushall()
        clear_archive(database)
        self.database = database
        self.logs = {name: archived_log(redis, database, name) for name in LOGS}
        self.history = EventHistory(database, self.logs)
        self.events: list[ArchivedEvent] = []
        """All recorded events in the order of the history."""

    def record(self, events: Sequence[TimedEvent], foreign: Sequence[TimedState] = ()) -> None:
        """Record each event in its log, and foreign events in the log of the users."""
        entries: dict[str, list[LogEntry]] = {}
        versions = Counter[str]()
        for event, time in events:
            entry = LogEntry(
                0, event.stream, 0, topic_of(type(event)), event.event_id, time / 1_000, encode(event), "http"
            )
            entries.setdefault(log_of(event.stream, 4), []).append(entry)
        for number, (state, time) in enumerate(foreign):
            entry = LogEntry(0, "user-1", 0, "elsewhere:Thing", f"foreign-{number}", time / 1_000, state, "http")
            entries.setdefault(USERS_LOG, []).append(entry)
        for name, unnumbered in entries.items():
            restored = []
            for position, entry in enumerate(sorted(unnumbered, key=lambda entry: entry.recorded_at), 1):
                versions[entry.stream] += 1
                numbered = entry._replace(position=position, version=versions[entry.stream])
                restored.append(EventToRestore(numbered, store_entry=True))
                self.events.append(ArchivedEvent(name, numbered, *attribution(entry.state), None))
            restore(self.logs[name], restored, identity=f"id of {name}")
            self.logs[name].open()
        self.events.sort(key=lambda event: (event.entry.recorded_at, event.log, event.entry.position))

    def archive(self, name: str, count: int) -> None:
        """Archive ``count`` further events of a log, and trim some of the archived events."""
        log = self.logs[name]
        if not count or not log.head():
            return
        if not log_state(log).opened:
            log.open()
        archiver = Archiver(self.database, log, acquire_archiver_lease(self.database, name), count)
        archiver.step(0)
        trim(log, upto=archiver.lease.checkpoint - count // 2, surplus=10**6, oldest=0)


def read_all_pages(
    recorded: RecordedLogs, event_filter: EventFilter, limit: int, archived_between: Sequence[ArchivingStep]
) -> list[ArchivedEvent]:
    """Read the history page by page, and do one step of archiving after each page."""
    steps = iter(archived_between)
    after: Positions | None = {}
    events: list[ArchivedEvent] = []
    while after is not None:
        page = recorded.history.events(event_filter, after, limit)
        assert len(page.events) <= limit
        events += page.events
        assert page.next != after, "the position of a page lies behind the position of the page before"
        after = page.next
        if step := next(steps, None):
            recorded.archive(*step)
    return events


def without_hash(events: Sequence[ArchivedEvent]) -> list[ArchivedEvent]:
    return [event._replace(hash=None) for event in events]


def matches(event: ArchivedEvent, event_filter: EventFilter) -> bool:
    """Return whether the filter lets the event through. This is the oracle of filters."""
    entry = event.entry
    return (
        event_filter.stream in (None, entry.stream)
        and event_filter.type in (None, entry.topic.removeprefix(TOPIC_PREFIX))
        and event_filter.source in (None, event.source)
        and event_filter.event_id in (None, entry.event_id)
        and event_filter.correlation_id in (None, event.correlation_id)
        and event_filter.log in (None, event.log)
        and (event_filter.from_position or 0) <= entry.position
        and (event_filter.to_position is None or entry.position <= event_filter.to_position)
        and (event_filter.from_time or 0) <= entry.recorded_at
        and (event_filter.to_time is None or entry.recorded_at < event_filter.to_time)
    )


@st.composite
def filters(draw: st.DrawFn, events: Sequence[ArchivedEvent]) -> EventFilter:
    """Draw a few conditions, most of them with the values of a recorded event."""
    event = draw(st.sampled_from(events))
    other = draw(st.sampled_from(events))
    conditions = {
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
    ranges = st.sets(st.sampled_from(("from_time", "to_time", "from_position", "to_position")), min_size=1)
    names = draw(st.one_of(ranges, st.sets(st.sampled_from(sorted(conditions)), max_size=3)))
    return EventFilter(**{name: conditions[name] for name in names})  # type: ignore[arg-type]


class PagingScenario(NamedTuple):
    """Recorded events, and the archiving before the first page and between pages."""

    events: list[TimedEvent]
    foreign: list[TimedState]
    archived_before: list[ArchivingStep]
    archived_between: list[ArchivingStep]
    limit: int
    """Highest number of events per page."""


@on_servers
@given(
    scenario=st.builds(
        PagingScenario,
        timed_events(market_events, 40),
        foreign_states,
        archiving_steps,
        archiving_steps,
        st.integers(1, 7),
    ),
    data=st.data(),
)
def test_pages_equal_the_matching_events_of_a_complete_list(
    redis: Redis, database: Database, monkeypatch: pytest.MonkeyPatch, scenario: PagingScenario, data: st.DataObject
) -> None:
    recorded = RecordedLogs(redis, database)
    recorded.record(scenario.events, scenario.foreign)
    for step in scenario.archived_before:
        recorded.archive(*step)
    event_filter = data.draw(filters(recorded.events))
    monkeypatch.setattr(event_pages, "READ_BATCH", data.draw(st.sampled_from((1, 3, 1_000)), label="read batch"))
    monkeypatch.setattr(event_pages, "PAGE_BYTES", data.draw(st.sampled_from((1, 500, 4_000_000)), label="page bytes"))
    monkeypatch.setattr(event_pages, "LOG_SCAN_LIMIT", data.draw(st.sampled_from((1, 5, 10_000)), label="scan limit"))
    events = read_all_pages(recorded, event_filter, scenario.limit, scenario.archived_between)
    assert without_hash(events) == [event for event in recorded.events if matches(event, event_filter)]


@on_servers
@given(events=timed_events(market_events, 40), limit=st.integers(1, 5), data=st.data())
def test_events_recorded_between_two_pages_appear_exactly_once(
    redis: Redis, database: Database, events: list[TimedEvent], limit: int, data: st.DataObject
) -> None:
    recorded = RecordedLogs(redis, database)
    recorded.record(events)
    appended: list[Event] = []
    after: Positions | None = {}
    read: list[ArchivedEvent] = []
    while after is not None:
        page = recorded.history.events(EventFilter(), after, limit)
        read += page.events
        after = page.next
        further = [] if len(appended) > 10 else data.draw(st.lists(market_events, max_size=2))
        for event in further:
            renamed = event.model_copy(update={"event_id": f"appended-{len(appended)}"})
            recorded.logs[log_of(event.stream, 4)].append(new_events([renamed]))
            appended.append(renamed)
        recorded.archive(data.draw(st.sampled_from(LOGS)), data.draw(st.integers(0, 3)))
    assert len(read) >= len(events)
    last_positions = {event.log: event.entry.position for event in read}
    read += recorded.history.events(EventFilter(), last_positions, 1_000).events
    assert Counter(event.entry.event_id for event in read) == Counter(
        event.event_id for event in [*(event for event, _ in events), *appended]
    )
    for log in LOGS:
        positions = [event.entry.position for event in read if event.log == log]
        assert positions == list(range(1, len(positions) + 1))


class PatternScenario(NamedTuple):
    """Events of patterns, and how far they are archived and folded into the pattern history."""

    events: list[TimedEvent]
    archived: list[ArchivingStep]
    folded_upto: int | None
    """Position up to which the pattern history is folded, or None if it was never folded."""
    limit: int


@on_servers
@given(
    scenario=st.builds(
        PatternScenario,
        timed_events(pattern_events, 30),
        archiving_steps,
        st.one_of(st.none(), st.integers(0, 30)),
        st.integers(1, 40),
    ),
    data=st.data(),
)
def test_the_history_of_a_pattern_has_the_events_about_the_pattern(
    redis: Redis, database: Database, scenario: PatternScenario, data: st.DataObject
) -> None:
    recorded = RecordedLogs(redis, database)
    recorded.record(scenario.events)
    for step in scenario.archived:
        recorded.archive(*step)
    if scenario.folded_upto is not None:
        store_references(database, scenario.folded_upto)
    events: list[Any] = [event for event, _ in scenario.events]
    detection = data.draw(st.sampled_from(events))
    tier = data.draw(st.sampled_from(("daily", "intraday", "never")))
    ids = {
        event.event_id
        for event in events
        if (event.symbol, event.pattern, event.detected_at)
        == (detection.symbol, detection.pattern, detection.detected_at)
        and event.tier in (None, tier)
    }
    pattern = pattern_id(detection.symbol, detection.pattern, tier, detection.detected_at)
    expected = [event for event in recorded.events if event.entry.event_id in ids][: scenario.limit]
    assert without_hash(recorded.history.of_pattern(pattern, scenario.limit)) == expected


def store_references(database: Database, upto: int) -> None:
    """Store the detection of each archived event up to a position, as the projector of the history does."""
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
                "INSERT INTO tickview.patterns_events VALUES (3, %s, %s, %s, %s)",
                [detection, log, position, recorded_at],
            )


@pytest.mark.parametrize("text", ["", "AAPL", "AAPL:Doji:1757001600000"])
def test_an_invalid_pattern_id_is_refused(redis: Redis, database: Database, text: str) -> None:
    with pytest.raises(ValueError, match="is not a pattern id"):
        RecordedLogs(redis, database).history.of_pattern(text, 1)


def test_a_stream_exists_if_the_log_or_the_archive_has_its_events(redis: Redis, database: Database) -> None:
    recorded = RecordedLogs(redis, database)
    log = recorded.logs["market-0"]
    log.append([NewEvent("symbol-AAPL", "elsewhere:Thing", b"{}")])
    assert recorded.history.has_stream("symbol-AAPL")
    assert not recorded.history.has_stream("symbol-AAP")
    recorded.archive("market-0", 1)
    assert recorded.history.has_stream("symbol-AAPL")
    assert not recorded.history.has_stream("symbol-AAPL2")


def test_the_history_includes_logs_that_only_the_archive_has(redis: Redis, database: Database) -> None:
    recorded = RecordedLogs(redis, database)
    recorded.logs["market-3"].append([NewEvent("symbol-AAPL", "elsewhere:Thing", b"{}", "only")])
    recorded.archive("market-3", 1)
    history = EventHistory(database, {"market-0": recorded.logs["market-0"]})
    [event] = history.events(EventFilter(), {}, 10).events
    assert (event.log, event.entry.event_id) == ("market-3", "only")
    assert event.hash is not None


def test_a_page_of_large_events_ends_early(redis: Redis, database: Database) -> None:
    recorded = RecordedLogs(redis, database)
    states = [b'{"padding":"%b"}' % (b"x" * (event_pages.PAGE_BYTES // 3)) for _ in range(9)]
    for number, state in enumerate(states):
        recorded.logs["market-0"].append([NewEvent("symbol-AAPL", "elsewhere:Thing", state, f"id-{number}")])
    recorded.archive("market-0", 5)
    sizes, after = [], dict[str, int]()
    while True:
        page = recorded.history.events(EventFilter(), after, 100)
        sizes.append(len(page.events))
        if page.next is None:
            break
        after = dict(page.next)
    assert (sum(sizes), max(sizes)) == (len(states), 2)
