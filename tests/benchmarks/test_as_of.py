"""The benchmark of scans as of a time: its history and its measured scans."""

from infra.bench import as_of
from infra.bench.scans import SCAN_KINDS
from infra.postgres.database import Database
from projections.queries import Query
from tests.row_history import query_history


def test_every_kind_of_scan_is_measured_on_a_history_of_the_requested_size(database: Database) -> None:
    measured = as_of.measure(database, 40_000, symbols=50, seconds=0.1)
    assert [rate.name[0] for rate in measured] == [case.name for case in SCAN_KINDS]
    for rate in measured:
        assert 0 < rate.p50_ms <= rate.p99_ms
        assert rate.per_second > 0
    with database.connection() as connection:
        [[states]] = connection.execute("SELECT count(*) FROM tickview.pattern_history")
    assert states == 40_000
    for moment in (as_of.FIRST_START + 25_000, as_of.FIRST_START + 39_000):
        total = query_history(database, [as_of.LOG], Query(moment)).page.total
        assert 0.9 < total / as_of.ACTIVE_PATTERNS < 1.1
