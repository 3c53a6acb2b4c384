"""A replica of a read model whose keys do not determine the log: it merges the rows of all logs with one key."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.streams import market_logs
from projections.activity import Activity, ActivityRow
from projections.base import encode_row
from projections.queries import ResultRow
from readapi.replica.replica import Replica
from tests.declarations import KEYS


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_rows_of_several_logs_are_merged(data: st.DataObject) -> None:
    replica, parts = Replica(Activity()), dict[str, dict[str, tuple[ActivityRow, int]]]()
    for _ in range(data.draw(st.integers(1, 12))):
        log, key = data.draw(st.sampled_from(market_logs(3))), data.draw(st.sampled_from(KEYS[:3]))
        before = {key: merged(others) for key, others in parts.items()}
        others = {name: part for name, part in parts.get(key, {}).items() if name != log}
        part = data.draw(st.one_of(st.none(), st.tuples(activity_rows, st.integers(1, 9))))
        parts[key] = {**others, log: part} if part else others
        changed = [(key, part and encode_row(*part))]
        after = merged(parts[key])
        old, new = before.get(key), after
        assert replica.changes(log, changed) == [(key, document_of(old), document_of(new))]
        replica.put(log, changed)
        assert replica.document(key) == document_of(after)
        present = {key: result for key, others in parts.items() if (result := merged(others))}
        assert list(replica.rows()) == [
            ResultRow(row, log, position, key) for key, (row, log, position) in sorted(present.items())
        ]


activity_rows = st.builds(
    ActivityRow,
    st.just("2026-11-23"),
    st.just("PatternDetected"),
    st.just("scanner"),
    st.integers(1, 100),
    st.sampled_from((1.0, 2.0)),
    st.sampled_from((3.0, 4)),
    st.dictionaries(st.sampled_from(("10:05", "10:06")), st.integers(1, 9)),
)


def merged(parts: Mapping[str, tuple[ActivityRow, int]]) -> tuple[ActivityRow, str, int] | None:
    if not parts:
        return None
    rows = [row for row, _ in parts.values()]
    position, log = max((position, log) for log, (_, position) in parts.items())
    first, latest = min(row.first_at for row in rows), max(row.latest_at for row in rows)
    minutes = (
        rows[0].minutes
        if len(rows) == 1
        else dict(sorted(sum((Counter(row.minutes) for row in rows), Counter()).items()))
    )
    row = replace(rows[0], events=sum(row.events for row in rows), first_at=first, latest_at=latest, minutes=minutes)
    return row, log, position


def document_of(result: tuple[ActivityRow, str, int] | None) -> bytes | None:
    return result and encode_row(result[0], result[2])
