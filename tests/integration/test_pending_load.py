"""The load of the rows that a batch may change: one request for rows, members of groups and parked keys."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from infra.read_models.keys import SegmentKeys
from infra.read_models.store import RedisStore
from projections.base import StoredRow, encode_row
from projections.fold import LoadedState
from projections.patterns import ActivePatterns, PatternRow
from projections.ports import RowsTooLargeError
from tests.integration.projector_support import segment_of

PROJECTION = ActivePatterns()
SEGMENT = segment_of(PROJECTION)
NAMES = SegmentKeys(SEGMENT)

keys = st.sampled_from([f"key-{number}" for number in range(40)])
groups = st.sampled_from([f"group-{number}" for number in range(20)])


def pattern_row(key: str) -> PatternRow:
    return PatternRow(key, key, "Doji", "daily", 0.5, 900.0, 900.0)


def store_state(
    redis: Redis, rows: Mapping[str, StoredRow[Any]], members: Mapping[str, set[str]], parked: set[str]
) -> None:
    redis.flushall()
    for key, stored in rows.items():
        redis.hset(NAMES.rows, key, encode_row(*stored))
    for group, names in members.items():
        redis.hset(NAMES.groups, group, "\n".join(sorted(names)))
    for key in parked:
        redis.hset(NAMES.parked, key, "{}")


class Case(NamedTuple):
    """The stored state of a segment, and what a batch needs of it."""

    stored: set[str]
    members: dict[str, set[str]]
    parked: set[str]
    wanted: set[str]
    wanted_groups: set[str]


cases = st.builds(
    Case,
    stored=st.sets(keys),
    members=st.dictionaries(groups, st.sets(keys, min_size=1), max_size=20),
    parked=st.sets(keys, max_size=3),
    wanted=st.sets(keys),
    wanted_groups=st.sets(groups),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases, is_received_first=st.booleans())
def test_a_load_has_the_rows_the_members_of_groups_and_their_rows(
    redis: Redis, case: Case, is_received_first: bool
) -> None:
    rows = {key: StoredRow(pattern_row(key), number) for number, key in enumerate(sorted(case.stored))}
    store_state(redis, rows, case.members, case.parked)
    load = RedisStore(redis).begin_load(PROJECTION, SEGMENT, case.wanted, case.wanted_groups, case.wanted)
    if is_received_first:
        load.wait()
    members = {group: case.members[group] for group in case.wanted_groups & case.members.keys()}
    named = case.wanted.union(*members.values())
    assert load.result() == LoadedState({key: rows[key] for key in named & case.stored}, members, named & case.parked)


def test_a_load_is_repeated_after_its_connection_is_lost_or_the_server_has_lost_its_functions(
    redis: Redis, redis_url: str
) -> None:
    store, rows = RedisStore(redis), {"a": StoredRow(pattern_row("a"), 1)}
    store_state(redis, rows, {"g": {"a"}}, set())
    with Redis.from_url(redis_url) as other:
        other.function_flush()
        assert store.begin_load(PROJECTION, SEGMENT, set(), {"g"}, set()).result().rows == rows
        other.client_pause(200)
        load = store.begin_load(PROJECTION, SEGMENT, set(), {"g"}, set())
        other.client_kill_filter(_type="normal", skipme=True)
        assert load.result().rows == rows


def test_rows_beyond_the_bound_of_bytes_are_refused(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {key: StoredRow(pattern_row(key), 1) for key in ("a", "b", "c")}
    store_state(redis, rows, {"g": {"b", "c"}}, set())
    size = len(encode_row(*rows["a"]))
    store = RedisStore(redis)
    monkeypatch.setattr("infra.read_models.pending_load.MAX_LOAD_BYTES", 3 * size)
    assert store.begin_load(PROJECTION, SEGMENT, {"a"}, {"g"}, set()).result().rows == rows
    # The row that exceeds the bound is read, but no further row.
    monkeypatch.setattr("infra.read_models.pending_load.MAX_LOAD_BYTES", 2 * size - 1)
    for wanted, wanted_groups in (({"a", "b", "c"}, set[str]()), ({"a"}, {"g"})):
        with pytest.raises(RowsTooLargeError):
            store.begin_load(PROJECTION, SEGMENT, wanted, wanted_groups, set()).result()
