"""The benchmark of the scan as of a moment asks what it says it asks."""

from infra.bench import as_of
from infra.bench.scans import SCAN_KINDS
from infra.postgres.database import Database
from projections.queries import PatternQuery
from tests.pattern_history import scan_history


def test_every_kind_of_scan_is_measured_on_a_history_of_the_size_that_was_asked_for(database: Database) -> None:
    measured = as_of.measure(database, 40_000, symbols=50, seconds=0.1)
    assert [one.name[0] for one in measured] == [case.name for case in SCAN_KINDS]
    for one in measured:
        assert 0 < one.p50_ms <= one.p99_ms
        assert one.per_second > 0
    with database.connection() as connection:
        [[states]] = connection.execute("SELECT count(*) FROM tickview.pattern_history_recorded")
    assert states == 40_000
    for moment in (as_of.BEGIN + 25_000, as_of.BEGIN + 39_000):
        total = scan_history(database, [as_of.LOG], PatternQuery(moment)).page.total
        assert 0.9 < total / as_of.ACTIVE < 1.1
