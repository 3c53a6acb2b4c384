"""Messages of live push: they lead a client, connected or resumed, to the rows that a query returns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.queries import Equality, Filter, Query, Range, ResultRow
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId
from readapi.push.change_index import ChangeIndex
from readapi.push.changes import changes_of
from readapi.push.event_ids import TopicPosition, parse_id
from readapi.push.replay_buffer import Bounds, ReplayBuffer
from readapi.push.subscriptions import Subscription, TopicSubscription
from readapi.push.topics import Topic
from readapi.push.updates import CHANGES_PER_MESSAGE, MAX_REMEMBERED_BYTES, updates_from
from readapi.read_models.rendering import all_columns
from tests.declarations import KEYS, NOW, DeclaredProjection, declarations, queries_of, values_of
from tests.oracles import rows as oracle
from tests.pattern_queries import pattern_row
from tests.push import BUILD, TOPICS, PushClient, commit_of

LOGS = ("market-0", "market-1", "market-2")
PATTERNS, BACKTESTS = TOPICS["patterns"], TOPICS["backtests"]

Rows = Mapping[str, ResultRow[Any]]
Batch = Mapping[str, Any | None]
"""The row that a batch of events leaves at each key. None: the batch removes the row."""


def log_of_key(key: str) -> str:
    return LOGS[KEYS.index(key) % len(LOGS)]


def batches_of(projection: DeclaredProjection) -> st.SearchStrategy[list[Batch]]:
    row = st.builds(projection.row, **{name: values_of(projection, name) for name in projection.columns})
    return st.lists(
        st.dictionaries(st.sampled_from(KEYS[:6]), st.one_of(st.none(), row, row), min_size=1, max_size=4), max_size=12
    )


def commits_of(batches: Sequence[Batch], *, knows_old: bool) -> list[tuple[Commit, Rows]]:
    """Build one commit for each batch and log, with the rows that exist after the commit."""
    rows: dict[str, ResultRow[Any]] = {}
    commits: list[tuple[Commit, Rows]] = []
    for position, batch in enumerate(batches, 1):
        for log in LOGS:
            changes = []
            for key, new in batch.items():
                if log_of_key(key) == log:
                    changes.append((key, rows[key].row if key in rows else None, new))
                    rows.pop(key, None)
                    if new is not None:
                        rows[key] = ResultRow(new, log, position, key)
            if changes:
                commits.append((commit_of(log, position, *changes, knows_old=knows_old), dict(rows)))
    return commits


def matching_rows(projection: DeclaredProjection, rows: Rows, filters: tuple[Filter, ...]) -> dict[str, Any]:
    """Return the documents of the rows that match now, as a client has them."""
    query, view = Query(NOW, filters), all_columns(projection)
    return {
        key: orjson.loads(orjson.dumps(view.render(result, NOW)))
        for key, result in rows.items()
        if oracle.matches(projection, key, result.row, query)
    }


def send_updates(client: PushClient, subscription: Subscription, buffer: ReplayBuffer, since: TopicPosition) -> None:
    [subscribed] = subscription
    topic = subscribed.topic
    for update in updates_from(topic, {topic.name: since}, buffer.commits_after(since.last_commits), NOW):
        message = update.message(subscription)
        if message:
            client.apply(message.body)


@given(st.data(), declarations(), st.booleans())
def test_a_connected_client_has_the_rows_that_match(
    data: st.DataObject, projection: DeclaredProjection, knows_old: bool
) -> None:
    filters = data.draw(queries_of(projection)).filters
    subscription = (TopicSubscription(Topic("declared", projection), filters),)
    client, buffer = PushClient("key"), ReplayBuffer()
    buffer.start_build(BUILD, {})
    for commit, rows in commits_of(data.draw(batches_of(projection)), knows_old=knows_old):
        before = buffer.position
        buffer.add(commit)
        send_updates(client, subscription, buffer, before)
        assert client.rows == matching_rows(projection, rows, filters)


@given(st.data(), declarations(), st.booleans(), st.integers(0, 40), st.sampled_from((3, 10, 1_000)))
def test_a_resumed_client_has_the_rows_that_match_or_gets_a_reset(
    data: st.DataObject, projection: DeclaredProjection, knows_old: bool, disconnected_after: int, max_changes: int
) -> None:
    filters = data.draw(queries_of(projection)).filters
    subscription = (TopicSubscription(Topic("declared", projection), filters),)
    commits = commits_of(data.draw(batches_of(projection)), knows_old=knows_old)
    buffer = ReplayBuffer(Bounds(changes=max_changes))
    buffer.start_build(BUILD, dict.fromkeys(LOGS, CommitId(0)))
    last_position, last_rows, rows = buffer.position, dict[str, Any](), dict[str, ResultRow[Any]]()
    for number, (commit, after) in enumerate(commits, 1):
        buffer.add(commit)
        rows = dict(after)
        if number == disconnected_after:
            last_position, last_rows = buffer.position, matching_rows(projection, rows, filters)
    client = PushClient("key", last_rows)
    if buffer.reason_lost(last_position):
        assert sum(len(commit.changes) for commit, _ in commits) > max_changes // len(LOGS)
    else:
        send_updates(client, subscription, buffer, last_position)
        assert client.rows == matching_rows(projection, rows, filters)


def test_each_missed_change_is_sent_once_and_in_order() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
    versions = [replace(row, current_price=float(number)) for number in range(6)]
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 6):
        buffer.add(
            commit_of("market-0", number // 2, (row.id, versions[number - 1], versions[number]), number=number % 2)
        )
    since = TopicPosition(BUILD, {"market-0": CommitId(1, 0)})
    [update] = updates_from(PATTERNS, {"patterns": since}, buffer.commits_after(since.last_commits), NOW)
    message = update.message((TopicSubscription(PATTERNS),))
    assert message is not None
    assert [text.split(b'"price":"')[1][:5] for text in message.body.split(b'"op"')[1:]] == [
        b"$3.00",
        b"$4.00",
        b"$5.00",
    ]
    assert message.id == "patterns:1.1/market-0=2-1"


def test_a_position_after_a_commit_that_redis_has_lost_is_not_resumed() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
    buffer = ReplayBuffer(Bounds(changes=2))
    buffer.start_build(BUILD, {"market-0": CommitId(1, 40)})
    for position in (2, 3):
        buffer.add(commit_of("market-0", position, (row.id, None, row), number=50))

    def reason(position: int, number: int) -> str | None:
        return buffer.reason_lost(TopicPosition(BUILD, {"market-0": CommitId(position, number)}))

    assert [reason(1, 40), reason(2, 50), reason(3, 50)] == [None, None, None]
    assert reason(2, 45) == reason(3, 7) == "the id is of a commit that Redis has lost"
    buffer.add(commit_of("market-0", 4, (row.id, None, row), number=50))
    assert reason(2, 50) is None, "the last commit before the buffer"
    assert reason(1, 40) == "the changes after the id are no longer in the replay buffer"


def test_the_expiry_event_removes_an_elapsed_pattern() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, expires_at=NOW - 1)
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    before = buffer.position
    buffer.add(commit_of("market-0", 1, (row.id, row, None)))
    client = PushClient("id", {row.id: {}})
    send_updates(client, (TopicSubscription(PATTERNS),), buffer, before)
    assert client.rows == {}


@pytest.mark.parametrize(
    ("filters", "sends"),
    [
        ((), True),
        ((Range("confidence", 0.9),), True),
        ((Equality("id", frozenset({"AAPL:Doji:daily:900000"})),), True),
        ((Equality("id", frozenset({"MSFT:Doji:daily:900000"})),), False),
    ],
)
def test_a_removal_without_the_old_row_is_sent_unless_the_filters_exclude_the_key(
    filters: tuple[Filter, ...], sends: bool
) -> None:
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {})
    before = buffer.position
    buffer.add(commit_of("market-0", 1, ("AAPL:Doji:daily:900000", None, None), knows_old=False))
    [update] = updates_from(PATTERNS, {"patterns": before}, buffer.commits_after({}), NOW)
    assert (update.message((TopicSubscription(PATTERNS, filters),)) is not None) == sends


def test_each_topic_has_its_own_form_of_a_row() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
    documents = {}
    for fields in ((), ("full",), ("symbol", "confidence")):
        buffer = ReplayBuffer()
        buffer.start_build(BUILD, {})
        before = buffer.position
        buffer.add(commit_of("market-0", 7, (row.id, None, row)))
        client = PushClient("symbol")
        send_updates(client, (TopicSubscription(PATTERNS, (), fields),), buffer, before)
        documents[fields] = client.rows["AAPL"]
    assert documents["symbol", "confidence"] == {"symbol": "AAPL", "confidence": 0.8}
    assert documents[()]["conf"] == 0.8
    assert documents["full",] == {**documents["full",], **documents[()], "position": "market-0=7"}
    assert [(TOPICS[name].member, list(TOPICS[name].view(()).members)[:2]) for name in ("backtests", "producers")] == [
        ("backtest", ["job_id", "status"]),
        ("row", ["source", "status"]),
    ]


def test_messages_are_bounded_and_do_not_split_a_commit() -> None:
    rows = [pattern_row(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(400)]
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    before = buffer.position
    for number in range(1, 5):
        buffer.add(commit_of("market-0", number, *((row.id, None, row) for row in rows)))
    updates = list(updates_from(PATTERNS, {"patterns": before}, buffer.commits_after(before.last_commits), NOW))
    assert len(rows) < CHANGES_PER_MESSAGE < 2 * len(rows)
    assert [len(update.changes) for update in updates] == [400] * 4
    assert [update.positions["patterns"].last_commits for update in updates] == [
        {"market-0": CommitId(number)} for number in range(1, 5)
    ]


def test_commits_of_several_logs_are_sent_in_the_order_of_their_arrival() -> None:
    """Otherwise the last change of a row that is merged from these logs could have an earlier state."""
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0), "market-1": CommitId(0)})
    arrivals = [("market-1", 1), ("market-0", 1), ("market-1", 2), ("market-0", 2)]
    for log, position in arrivals:
        buffer.add(commit_of(log, position, ("job-1", None, None)))
    assert [(commit.log, commit.id.position) for commit in buffer.commits_after({})] == arrivals
    behind = {"market-0": CommitId(1), "market-1": CommitId(1)}
    assert [(commit.log, commit.id.position) for commit in buffer.commits_after(behind)] == arrivals[2:]


def test_the_replay_buffer_is_bounded_in_bytes() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, extra={"padding": "x" * 2_000})
    buffer = ReplayBuffer(Bounds(bytes=100_000))
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 1_001):
        buffer.add(commit_of("market-0", number, (row.id, row, row)))
    assert 10 < len(list(buffer.commits_after({}))) < 25
    assert (
        buffer.reason_lost(TopicPosition(BUILD, {"market-0": CommitId(900)}))
        == "the changes after the id are no longer in the replay buffer"
    )
    assert buffer.reason_lost(TopicPosition(BUILD, {"market-0": CommitId(990)})) is None
    assert (
        buffer.reason_lost(TopicPosition(Build(1, 2), {}))
        == "the id is of build 1.2, but build 1.1 of the read model answers now"
    )


def test_the_replay_buffer_is_bounded_in_commits_without_changes() -> None:
    """Most commits to a read model that seldom changes have no changes. They would fill the memory of the process."""
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
    buffer = ReplayBuffer(Bounds(commits=100))
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 1_001):
        buffer.add(commit_of("market-0", number, *([(row.id, None, row)] if number % 50 == 0 else [])))
    assert [commit.id.position for commit in buffer.commits_after({})] == [950, 1_000]
    positions = [TopicPosition(BUILD, {"market-0": CommitId(number)}) for number in (899, 900, 977)]
    assert list(map(buffer.reason_lost, positions)) == [
        "the changes after the id are no longer in the replay buffer",
        None,
        None,
    ]


def test_a_subscription_only_receives_its_backtest_runs() -> None:
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {})
    before = buffer.position
    buffer.add(Commit(BUILD, "market-0", CommitId(1), None, [], knows_old=True))
    buffer.add(commit_of("market-0", 2, ("job-1", None, None), ("job-2", None, None), knows_old=False))
    [update] = updates_from(BACKTESTS, {"backtests": before}, buffer.commits_after({}), NOW)
    all_runs, one_run, no_run = (
        update.message((TopicSubscription(BACKTESTS, filters),))
        for filters in ((), (Equality("job_id", frozenset({"job-2"})),), (Equality("job_id", frozenset({"job-3"})),))
    )
    assert all_runs is not None
    assert one_run is not None
    assert all_runs.body.count(b'"remove"') == 2
    assert one_run.body.endswith(b'"changes":[{"op":"remove","id":"job-2"}]}')
    assert no_run is None
    assert parse_id(one_run.id or "", ["backtests"]) == {"backtests": buffer.position}


@pytest.mark.parametrize(("size", "is_remembered"), [(1_000, True), (MAX_REMEMBERED_BYTES, False)])
def test_an_update_remembers_few_bytes_of_messages(size: int, is_remembered: bool) -> None:
    row = pattern_row("AAPL", "Doji", "daily", NOW, 0.8, extra={"padding": "x" * size})
    start = {"patterns": TopicPosition(BUILD, {"market-0": CommitId(0)})}
    [update] = updates_from(PATTERNS, start, [commit_of("market-0", 1, (row.id, None, row))], NOW)
    subscription = (TopicSubscription(PATTERNS, fields=("full",)),)
    first, second = update.message(subscription), update.message(subscription)
    assert first == second
    assert (first is second) == is_remembered


def test_a_filter_by_value_tests_only_the_changes_that_can_concern_it() -> None:
    rows = [pattern_row(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(5)]
    moved = replace(rows[0], symbol="S1")
    known = commit_of("market-0", 1, (rows[0].id, rows[0], moved), *((row.id, None, row) for row in rows[1:]))
    unknown = commit_of("market-0", 2, ("X", None, None), knows_old=False)
    changes = [change for commit in (known, unknown) for change in changes_of(PATTERNS, commit, NOW)]
    index = ChangeIndex(PATTERNS.projection, changes)

    def candidates(column: str, *values: str) -> list[int]:
        return [changes.index(change) for change in index.candidates(Equality(column, frozenset(values)))]

    assert candidates("symbol", "S0") == [0, 5], "the old row has the value, or may have it"
    assert candidates("symbol", "S1", "S4") == [0, 1, 4, 5]
    assert candidates("symbol", "S9") == [5]
    assert candidates("id", rows[2].id, rows[3].id) == [2, 3, 5]
    assert candidates("symbol", *(f"S{number}" for number in range(10, 16))) == [0, 1, 2, 3, 4, 5], "as many values"
    assert index.candidates(None) == changes
