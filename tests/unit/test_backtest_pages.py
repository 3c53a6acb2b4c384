"""Pages of backtest runs, bounded in bytes."""

import orjson
import pytest

from projections.backtests import Backtests
from projections.queries import ResultRow
from readapi.backtests.resources import render_page
from readapi.http.problems import Problem
from readapi.read_models.pages import PAGE_BYTES
from tests.events import backtest_completed


def runs_of(number: int, size: int) -> list[ResultRow]:
    """Return completed runs whose results have a note of ``size`` characters each."""
    results = {"note": "x" * size}
    events = [backtest_completed(event_id=f"event-{n}", job_id=f"job-{n}", results=results) for n in range(number)]
    rows = [Backtests().evolve(None, event) for event in events]
    return [ResultRow(row, "market-0", position, row.job_id) for position, row in enumerate(rows, 1) if row]


def test_a_page_of_runs_is_an_array() -> None:
    assert [run["job_id"] for run in orjson.loads(render_page(runs_of(3, 100)))] == ["job-0", "job-1", "job-2"]
    assert render_page([]) == b"[]"


def test_one_run_may_be_larger_than_a_page() -> None:
    assert len(render_page(runs_of(1, 2 * PAGE_BYTES))) > PAGE_BYTES


def test_a_page_of_too_many_large_runs_is_refused_with_the_number_that_fits() -> None:
    with pytest.raises(Problem, match="at most 3 of them fit a page"):
        render_page(runs_of(5, PAGE_BYTES // 4))
