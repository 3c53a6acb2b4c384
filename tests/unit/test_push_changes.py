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
from readapi.push.updates import CHANGES_PER_MESSAGE, steps
from tests.oracles import queries as oracle
from tests.push import BUILD, Client, commit_of
from tests.queries import LOGS, NOW, log_of_pattern, pattern_queries, row_of, rows_of_patterns

Rows = dict[str, PatternRow]
Written = list[tuple[PatternRow, bool]]
"""Rows, and whether each is there afterwards or gone."""


@given(rows_of_patterns, pattern_queries())
def test_a_query_lets_pass_what_the_oracle_does(row: PatternRow, query: PatternQuery) -> None:
    assert query.matches(row) == oracle.matches(row, query)
    if query.matches(row):
        assert query.may_match(row.symbol, row.pattern, row.tier)


batches = st.lists(st.lists(st.tuples(rows_of_patterns, st.booleans()), min_size=1, max_size=4), max_size=12)


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


def told(client: Client, interests: Subscription, kept: ReplayBuffer, since: TopicPosition) -> None:
    for step in steps("patterns", {"patterns": since}, kept.behind(since.marks), NOW):
        message = step.message(interests)
        if message:
            client.take(message.body)


@given(batches, pattern_queries(), st.booleans(), st.booleans())
def test_a_client_shows_what_a_scan_would(
    batches: list[Written], query: PatternQuery, knows_old: bool, full: bool
) -> None:
    interests: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS), full)),)
    client, kept = Client(), ReplayBuffer()
    kept.begin(BUILD, {})
    for commit, rows in commits_of(batches, knows_old=knows_old):
        before = kept.place
        kept.add(commit)
        told(client, interests, kept, before)
        assert client.shown == shown(rows, query)


@given(batches, pattern_queries(), st.booleans(), st.integers(0, 40), st.sampled_from((3, 10, 1_000)))
def test_a_client_that_comes_back_shows_the_same_or_is_told_that_something_is_lost(
    batches: list[Written], query: PatternQuery, knows_old: bool, left_after: int, changes_kept: int
) -> None:
    interests: Subscription = (("patterns", PatternSubscription(query._replace(now=ALWAYS))),)
    commits = commits_of(batches, knows_old=knows_old)
    kept = ReplayBuffer(changes=changes_kept)
    kept.begin(BUILD, dict.fromkeys(LOGS, CommitId(0)))
    last_known, last_shown, rows = kept.place, set[str](), {}
    for number, (commit, rows) in enumerate(commits, 1):
        kept.add(commit)
        if number == left_after:
            last_known, last_shown = kept.place, shown(rows, query)
    client = Client(last_shown)
    if kept.lost(last_known):
        assert sum(len(commit.changes) for commit, _ in commits) > changes_kept // len(LOGS)
    else:
        told(client, interests, kept, last_known)
        assert client.shown == shown(rows, query)


def test_each_of_the_missed_changes_is_told_once_and_in_order() -> None:
    row = row_of("AAPL", "Doji", "daily", 900.0, 0.8)
    versions = [replace(row, current_price=float(number)) for number in range(6)]
    kept = ReplayBuffer()
    kept.begin(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 6):
        kept.add(
            commit_of("market-0", number // 2, (row.id, versions[number - 1], versions[number]), number=number % 2)
        )
    since = TopicPosition(BUILD, {"market-0": CommitId(1, 0)})
    [step] = steps("patterns", {"patterns": since}, kept.behind(since.marks), NOW)
    message = step.message((("patterns", PatternSubscription(PatternQuery(ALWAYS))),))
    assert message is not None
    assert [text.split(b'"price":"')[1][:5] for text in message.body.split(b'"op"')[1:]] == [
        b"$3.00",
        b"$4.00",
        b"$5.00",
    ]
    assert message.id == "patterns:1.1/market-0=2-1"


def test_a_pattern_that_has_elapsed_is_removed_by_the_event_that_says_so() -> None:
    row = row_of("AAPL", "Doji", "daily", 900.0, 0.8, expires_at=NOW - 1)
    kept = ReplayBuffer()
    kept.begin(BUILD, {"market-0": CommitId(0)})
    before = kept.place
    kept.add(commit_of("market-0", 1, (row.id, row, None)))
    client = Client({row.id})
    told(client, (("patterns", PatternSubscription(PatternQuery(ALWAYS))),), kept, before)
    assert client.shown == set()


@pytest.mark.parametrize(("symbol", "removes"), [("AAPL", True), ("MSFT", False)])
def test_where_the_old_row_is_unknown_only_who_may_show_it_is_told_to_remove_it(symbol: str, removes: bool) -> None:
    kept = ReplayBuffer()
    kept.begin(BUILD, {})
    before = kept.place
    kept.add(commit_of("market-0", 1, ("AAPL:Doji:daily:900000", None, None), knows_old=False))
    [step] = steps("patterns", {"patterns": before}, kept.behind({}), NOW)
    query = PatternQuery(ALWAYS, symbols=frozenset({symbol}))
    assert (step.message((("patterns", PatternSubscription(query)),)) is not None) == removes


def test_messages_are_bounded_and_never_tear_a_commit() -> None:
    rows = [row_of(f"S{number}", "Doji", "daily", 900.0, 0.8) for number in range(400)]
    kept = ReplayBuffer()
    kept.begin(BUILD, {"market-0": CommitId(0)})
    before = kept.place
    for number in range(1, 5):
        kept.add(commit_of("market-0", number, *((row.id, None, row) for row in rows)))
    made = list(steps("patterns", {"patterns": before}, kept.behind(before.marks), NOW))
    assert len(rows) < CHANGES_PER_MESSAGE < 2 * len(rows)
    assert [len(step.changes) for step in made] == [400] * 4
    assert [step.places["patterns"].marks for step in made] == [
        {"market-0": CommitId(number)} for number in range(1, 5)
    ]


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    row = row_of("AAPL", "Doji", "daily", 900.0, 0.8, extra={"padding": "x" * 2_000})
    kept = ReplayBuffer(size=100_000)
    kept.begin(BUILD, {"market-0": CommitId(0)})
    for number in range(1, 1_001):
        kept.add(commit_of("market-0", number, (row.id, row, row)))
    assert 10 < len(list(kept.behind({}))) < 25
    assert kept.lost(TopicPosition(BUILD, {"market-0": CommitId(900)})) == "what came after the id is no longer kept"
    assert kept.lost(TopicPosition(BUILD, {"market-0": CommitId(990)})) is None
    assert kept.lost(TopicPosition(Build(1, 2), {})) == "the read model is answered from build 1.1 now, not from 1.2"


def test_only_the_runs_asked_for_are_told() -> None:
    kept = ReplayBuffer()
    kept.begin(BUILD, {})
    before = kept.place
    kept.add(Commit(BUILD, "market-0", CommitId(1), None, [], knows_old=True))
    kept.add(commit_of("market-0", 2, ("job-1", None, None), ("job-2", None, None), knows_old=False))
    [step] = steps("backtests", {"backtests": before}, kept.behind({}), NOW)
    both, one = (step.message((("backtests", BacktestSubscription(frozenset(jobs))),)) for jobs in ((), ("job-2",)))
    assert both is not None
    assert one is not None
    assert both.body.count(b'"remove"') == 2
    assert one.body.endswith(b'"changes":[{"op":"remove","id":"job-2"}]}')
    assert step.message((("backtests", BacktestSubscription(frozenset({"job-3"}))),)) is None
    assert parse_id(one.id, ["backtests"]) == {"backtests": kept.place}
