"""The clock of the logs on a real Valkey, and queries about a moment that has not passed by this clock."""

import time
from math import inf

import falcon.testing
import pytest
from falcon.asgi import Request, Response
from redis import Redis

from infra.log.clock import LogClock
from infra.log.event_log import EventLog
from infra.serving.live_read_model import LiveReadModel
from projections.backtests import Backtests
from projections.queries import Timeline
from readapi.http.problems import Problem
from readapi.http.read_model import ReadModel
from readapi.read_models.as_of import RowHistory
from readapi.read_models.pages import PastPages
from readapi.replica.replica import Replica
from tests.events import new_events, pattern_detected

CLOCK_OF_THE_LOG = 1_757_000_000.0


def test_the_clock_is_that_by_which_the_log_records(redis: Redis) -> None:
    clock = LogClock(redis, ["market-0", "market-1"])
    assert clock.now() == inf
    clock.measure()
    before = clock.now()
    log = EventLog(redis, "market-0")
    log.append(new_events([pattern_detected()]))
    after = clock.now()
    [entry] = log.read(0, 1)
    # The clock is at most a round trip ahead. The time of recording has milliseconds.
    assert before - 1 <= entry.recorded_at + 0.001
    assert entry.recorded_at <= after


def past_pages(moment: float, now: float, timeline: Timeline = "recorded", log_time: float = CLOCK_OF_THE_LOG) -> None:
    """Ask a process whose clock says ``now`` about a moment."""
    backtests = Backtests()
    live = LiveReadModel(backtests, ["market-0"], lambda _build, _logs: Replica(backtests))
    history = RowHistory("backtest_history", None, 0, lambda: log_time)
    request = Request(falcon.testing.create_scope(), falcon.testing.ASGIRequestEventEmitter())
    PastPages(ReadModel(backtests, live, 0), history, request, Response(), (timeline, moment), now)


@pytest.mark.parametrize("timeline", ["recorded", "valid"])
def test_a_process_whose_clock_runs_ahead_does_not_answer_the_future_of_the_log(timeline: Timeline) -> None:
    with pytest.raises(Problem, match=r"lies in the future of the log, whose time is 1757000000\.000"):
        past_pages(CLOCK_OF_THE_LOG + 1, time.time(), timeline)
    past_pages(CLOCK_OF_THE_LOG - 1, time.time(), timeline)


def test_a_process_does_not_answer_its_own_future_either() -> None:
    for log_time in (CLOCK_OF_THE_LOG, inf):
        with pytest.raises(Problem, match=r"lies in the future$"):
            past_pages(CLOCK_OF_THE_LOG, CLOCK_OF_THE_LOG - 1, log_time=log_time)
