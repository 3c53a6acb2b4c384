"""What clients are told leads them to what a scan would show, whether they stayed or came back."""

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
Written = list[tuple[PatternRow, bool]]
"""Rows, and whether each is there afterwards or gone."""


@given(pattern_rows, pattern_queries())
def test_a_query_lets_pass_what_the_oracle_does(row: PatternRow, query: PatternQuery) -> None:
    assert query.matches(row) == oracle.matches(row, query)
    if query.matches(row):
        assert query.may_match(row.symbol, row.pattern, row.tier)


batches = st.lists(st.lists(st.tuples(pattern_rows, st.booleans()), min_size=1, max_size=4), max_size=12)


def commits_of(batches: Sequence[Written], *, knows_old: bool) -> list[tuple[Commit, Rows]]:
    """A commit for each batch and log, and the rows there are after it."""
    rows: Rows = {}
    commits = []
    for position, batch in enumerate(batches, 1):
        for log in LOGS:
            changes = []
            for row, stays in batch:
                if log_of_pattern(row.id) == log and row.id not in {key for key, _, _ in changes}:
                    changes.append((row.id, rows.get(row.id), row if stays else None))
            for key, _, new in changes:
                rows.pop(key, None)
                if new:
                    rows[key] = new
            if changes:
                commits.append((commit_of(log, position, *changes, knows_old=knows_old), dict(rows)))
    return commits


def shown(rows: Rows, query: PatternQuery) -> set[str]:
    return {row.id for row in rows.values() if oracle.matches(row, query._replace(now=NOW))}


def told(client: PushClient, subscription: Subscription, kept: ReplayBuffer, since: TopicPosition) -> None:
    for update in updates_from("patterns", {"patterns": since}, kept.commits_after(since.last_commits), NOW):
        message = update.message(subscription)
        if message:
            client.apply(message.body)


@given(batches, pattern_queries(), st.booleans(), st.booleans())
def test_a_client_shows_what_a_scan_would(
    batches: list[Written], query: PatternQuery, knows_old: bool, full: bool
) -> None:
    subscription: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS), full)),)
    client, kept = PushClient(), ReplayBuffer()
    kept.start_build(BUILD, {})
    for commit, rows in commits_of(batches, knows_old=knows_old):
        before = kept.position
        kept.add(commit)
        told(client, subscription, kept, before)
        assert client.pattern_ids == shown(rows, query)


@given(batches, pattern_queries(), st.booleans(), st.integers(0, 40), st.sampled_from((3, 10, 1_000)))
def test_a_client_that_comes_back_shows_the_same_or_is_told_that_something_is_lost(
    batches: list[Written], query: PatternQuery, knows_old: bool, left_after: int, changes_kept: int
) -> None:
    subscription: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS))),)
    commits = commits_of(batches, knows_old=knows_old)
    kept = ReplayBuffer(max_changes=changes_kept)
    kept.start_build(BUILD, dict.fromkeys(LOGS, CommitId(0)))
    last_known, last_shown, rows = kept.position, set[str](), {}
    for number, (commit, rows) in enumerate(commits, 1):
        kept.add(commit)
        if number == left_after:
            last_known, last_shown = kept.position, shown(rows, query)
    client = PushClient(last_shown)
    if kept.reason_lost(last_known):
        assert sum(len(commit.changes) for commit, _ in commits) > changes_kept // len(LOGS)
    else:
        told(client, subscription, kept, last_known)
        assert client.pattern_ids == shown(rows, query)


def test_each_of_the_missed_changes_is_told_once_and_in_order() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8)
    versions = [replace(row, current_price=float(number)) for number in range(6)]
    kept = ReplayBuffer()
    kept.start_build(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 6):
        kept.add(
            commit_of("market-0", number // 2, (row.id, versions[number - 1], versions[number]), number=number % 2)
        )
    since = TopicPosition(BUILD, {"market-0": CommitId(1, 0)})
    [update] = updates_from("patterns", {"patterns": since}, kept.commits_after(since.last_commits), NOW)
    message = update.message((("patterns", PatternSubscription(PatternQuery(ALWAYS))),))
    assert message is not None
    assert [text.split(b'"price":"')[1][:5] for text in message.body.split(b'"op"')[1:]] == [
        b"$3.00",
        b"$4.00",
        b"$5.00",
    ]
    assert message.id == "patterns:1.1/market-0=2-1"


def test_a_pattern_that_has_elapsed_is_removed_by_the_event_that_says_so() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, expires_at=NOW - 1)
    kept = ReplayBuffer()
    kept.start_build(BUILD, {"market-0": CommitId(0)})
    before = kept.position
    kept.add(commit_of("market-0", 1, (row.id, row, None)))
    client = PushClient({row.id})
    told(client, (("patterns", PatternSubscription(PatternQuery(ALWAYS))),), kept, before)
    assert client.pattern_ids == set()


@pytest.mark.parametrize(("symbol", "removes"), [("AAPL", True), ("MSFT", False)])
def test_where_the_old_row_is_unknown_only_who_may_show_it_is_told_to_remove_it(symbol: str, removes: bool) -> None:
    kept = ReplayBuffer()
    kept.start_build(BUILD, {})
    before = kept.position
    kept.add(commit_of("market-0", 1, ("AAPL:Doji:daily:900000", None, None), knows_old=False))
    [update] = updates_from("patterns", {"patterns": before}, kept.commits_after({}), NOW)
    query = PatternQuery(ALWAYS, symbols=frozenset({symbol}))
    assert (update.message((("patterns", PatternSubscription(query)),)) is not None) == removes


def test_messages_are_bounded_and_never_tear_a_commit() -> None:
    rows = [pattern_row(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(400)]
    kept = ReplayBuffer()
    kept.start_build(BUILD, {"market-0": CommitId(0)})
    before = kept.position
    for number in range(1, 5):
        kept.add(commit_of("market-0", number, *((row.id, None, row) for row in rows)))
    made = list(updates_from("patterns", {"patterns": before}, kept.commits_after(before.last_commits), NOW))
    assert len(rows) < CHANGES_PER_MESSAGE < 2 * len(rows)
    assert [len(update.changes) for update in made] == [400] * 4
    assert [update.positions["patterns"].last_commits for update in made] == [
        {"market-0": CommitId(number)} for number in range(1, 5)
    ]


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    row = pattern_row("AAPL", "Doji", "daily", 900.0, 0.8, extra={"padding": "x" * 2_000})
    kept = ReplayBuffer(max_bytes=100_000)
    kept.start_build(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 1_001):
        kept.add(commit_of("market-0", number, (row.id, row, row)))
    assert 10 < len(list(kept.commits_after({}))) < 25
    assert (
        kept.reason_lost(TopicPosition(BUILD, {"market-0": CommitId(900)}))
        == "the changes after the id are no longer in the replay buffer"
    )
    assert kept.reason_lost(TopicPosition(BUILD, {"market-0": CommitId(990)})) is None
    assert (
        kept.reason_lost(TopicPosition(Build(1, 2), {}))
        == "the id is of build 1.2, but build 1.1 of the read model answers now"
    )


def test_only_the_runs_asked_for_are_told() -> None:
    kept = ReplayBuffer()
    kept.start_build(BUILD, {})
    before = kept.position
    kept.add(Commit(BUILD, "market-0", CommitId(1), None, [], knows_old=True))
    kept.add(commit_of("market-0", 2, ("job-1", None, None), ("job-2", None, None), knows_old=False))
    [update] = updates_from("backtests", {"backtests": before}, kept.commits_after({}), NOW)
    both, one = (update.message((("backtests", BacktestSubscription(frozenset(jobs))),)) for jobs in ((), ("job-2",)))
    assert both is not None
    assert one is not None
    assert both.body.count(b'"remove"') == 2
    assert one.body.endswith(b'"changes":[{"op":"remove","id":"job-2"}]}')
    assert update.message((("backtests", BacktestSubscription(frozenset({"job-3"}))),)) is None
    assert parse_id(one.id, ["backtests"]) == {"backtests": kept.position}
