"""Messages of live push: they lead a client, connected or resumed, to the patterns that a scan returns."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.patterns import PatternRow
from projections.queries import PatternQuery
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId
from readapi.push.event_ids import TopicPosition, parse_id
from readapi.push.replay_buffer import ReplayBuffer
from readapi.push.subscriptions import ALWAYS, BacktestSubscription, PatternSubscription, Subscription
from readapi.push.updates import CHANGES_PER_MESSAGE, updates_from
from tests.oracles import queries as oracle
from tests.pattern_queries import LOGS, NOW, log_of_pattern, pattern_queries, pattern_row, pattern_rows
from tests.push import BUILD, PushClient, commit_of

Rows = dict[str, PatternRow]
Batch = list[tuple[PatternRow, bool]]
"""Rows, each with a flag: True if the batch writes the row, False if it removes the row."""


@given(pattern_rows, pattern_queries())
def test_a_query_matches_the_rows_that_the_oracle_matches(row: PatternRow, query: PatternQuery) -> None:
    assert query.matches(row) == oracle.matches(row, query)
    if query.matches(row):
        assert query.may_match(row.symbol, row.pattern, row.tier)


batches = st.lists(st.lists(st.tuples(pattern_rows, st.booleans()), min_size=1, max_size=4), max_size=12)


def commits_of(batches: Sequence[Batch], *, knows_old: bool) -> list[tuple[Commit, Rows]]:
    """Build one commit for each batch and log, with the rows that exist after the commit."""
    rows: Rows = {}
    commits = []
    for position, batch in enumerate(batches, 1):
        for log in LOGS:
            changes = []
            for row, exists in batch:
                if log_of_pattern(row.id) == log and row.id not in {key for key, _, _ in changes}:
                    changes.append((row.id, rows.get(row.id), row if exists else None))
            for key, _, new in changes:
                rows.pop(key, None)
                if new:
                    rows[key] = new
            if changes:
                commits.append((commit_of(log, position, *changes, knows_old=knows_old), dict(rows)))
    return commits


def matching_ids(rows: Rows, query: PatternQuery) -> set[str]:
    return {row.id for row in rows.values() if oracle.matches(row, query._replace(now=NOW))}


def send_updates(client: PushClient, subscription: Subscription, buffer: ReplayBuffer, since: TopicPosition) -> None:
    for update in updates_from("patterns", {"patterns": since}, buffer.commits_after(since.last_commits), NOW):
        message = update.message(subscription)
        if message:
            client.apply(message.body)


@given(batches, pattern_queries(), st.booleans(), st.booleans())
def test_a_connected_client_has_the_patterns_that_a_scan_returns(
    batches: list[Batch], query: PatternQuery, knows_old: bool, full: bool
) -> None:
    subscription: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS), full)),)
    client, buffer = PushClient(), ReplayBuffer()
    buffer.start_build(BUILD, {})
    for commit, rows in commits_of(batches, knows_old=knows_old):
        before = buffer.position
        buffer.add(commit)
        send_updates(client, subscription, buffer, before)
        assert client.pattern_ids == matching_ids(rows, query)


@given(batches, pattern_queries(), st.booleans(), st.integers(0, 40), st.sampled_from((3, 10, 1_000)))
def test_a_resumed_client_has_the_patterns_of_a_scan_or_gets_a_reset(
    batches: list[Batch], query: PatternQuery, knows_old: bool, disconnected_after: int, max_changes: int
) -> None:
    subscription: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS))),)
    commits = commits_of(batches, knows_old=knows_old)
    buffer = ReplayBuffer(max_changes=max_changes)
    buffer.start_build(BUILD, dict.fromkeys(LOGS, CommitId(0)))
    last_position, last_ids, rows = buffer.position, set[str](), {}
    for number, (commit, rows) in enumerate(commits, 1):
        buffer.add(commit)
        if number == disconnected_after:
            last_position, last_ids = buffer.position, matching_ids(rows, query)
    client = PushClient(last_ids)
    if buffer.reason_lost(last_position):
        assert sum(len(commit.changes) for commit, _ in commits) > max_changes // len(LOGS)
    else:
        send_updates(client, subscription, buffer, last_position)
        assert client.pattern_ids == matching_ids(rows, query)


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
    [update] = updates_from("patterns", {"patterns": since}, buffer.commits_after(since.last_commits), NOW)
    message = update.message((("patterns", PatternSubscription(PatternQuery(ALWAYS))),))
    assert message is not None
    assert [text.split(b'"price":"')[1][:5] for text in message.body.split(b'"op"')[1:]] == [
        b"$3.00",
        b"$4.00",
        b"$5.00",
    ]
    assert message.id == "patterns:1.1/market-0=2-1"


def test_the_expiry_event_removes_an_elapsed_pattern() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, expires_at=NOW - 1)
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    before = buffer.position
    buffer.add(commit_of("market-0", 1, (row.id, row, None)))
    client = PushClient({row.id})
    send_updates(client, (("patterns", PatternSubscription(PatternQuery(ALWAYS))),), buffer, before)
    assert client.pattern_ids == set()


@pytest.mark.parametrize(("symbol", "removes"), [("AAPL", True), ("MSFT", False)])
def test_a_removal_without_the_old_row_is_sent_to_subscriptions_that_may_match(symbol: str, removes: bool) -> None:
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {})
    before = buffer.position
    buffer.add(commit_of("market-0", 1, ("AAPL:Doji:daily:900000", None, None), knows_old=False))
    [update] = updates_from("patterns", {"patterns": before}, buffer.commits_after({}), NOW)
    query = PatternQuery(ALWAYS, symbols=frozenset({symbol}))
    assert (update.message((("patterns", PatternSubscription(query)),)) is not None) == removes


def test_messages_are_bounded_and_do_not_split_a_commit() -> None:
    rows = [pattern_row(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(400)]
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {"market-0": CommitId(0)})
    before = buffer.position
    for number in range(1, 5):
        buffer.add(commit_of("market-0", number, *((row.id, None, row) for row in rows)))
    updates = list(updates_from("patterns", {"patterns": before}, buffer.commits_after(before.last_commits), NOW))
    assert len(rows) < CHANGES_PER_MESSAGE < 2 * len(rows)
    assert [len(update.changes) for update in updates] == [400] * 4
    assert [update.positions["patterns"].last_commits for update in updates] == [
        {"market-0": CommitId(number)} for number in range(1, 5)
    ]


def test_the_replay_buffer_is_bounded_in_bytes() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, extra={"padding": "x" * 2_000})
    buffer = ReplayBuffer(max_bytes=100_000)
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


def test_a_subscription_only_receives_its_backtest_runs() -> None:
    buffer = ReplayBuffer()
    buffer.start_build(BUILD, {})
    before = buffer.position
    buffer.add(Commit(BUILD, "market-0", CommitId(1), None, [], knows_old=True))
    buffer.add(commit_of("market-0", 2, ("job-1", None, None), ("job-2", None, None), knows_old=False))
    [update] = updates_from("backtests", {"backtests": before}, buffer.commits_after({}), NOW)
    all_runs, one_run = (
        update.message((("backtests", BacktestSubscription(frozenset(jobs))),)) for jobs in ((), ("job-2",))
    )
    assert all_runs is not None
    assert one_run is not None
    assert all_runs.body.count(b'"remove"') == 2
    assert one_run.body.endswith(b'"changes":[{"op":"remove","id":"job-2"}]}')
    assert update.message((("backtests", BacktestSubscription(frozenset({"job-3"}))),)) is None
    assert parse_id(one_run.id, ["backtests"]) == {"backtests": buffer.position}
