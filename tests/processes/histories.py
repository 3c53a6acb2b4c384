"""Long random histories of events in every partition of the market log."""

import random
from functools import cache
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import seed as fixed_seed
from redis import Redis

from domain.event_types import EVENT_TYPES
from domain.events import Event, PatternEvent
from domain.streams import log_of, market_logs
from infra.log.event_log import EventLog
from tests.events import new_events
from tests.strategies import market_events

LOGS = market_logs(4)


@cache
def example_events() -> list[Event]:
    """Draw 500 events from the strategies of Hypothesis, once per test run because the drawing takes a second."""
    drawn: list[Event] = []

    @fixed_seed(1)
    @settings(max_examples=500, phases=[Phase.generate], database=None, deadline=None)
    @given(market_events)
    def draw(event: Event) -> None:
        drawn.append(event)

    draw()
    return drawn


def random_history(size: int, seed: int) -> list[Event]:
    """Choose ``size`` events at random, with their own ids and times, and with ten times as many symbols."""
    chance = random.Random(seed)

    def change(event: Event, number: int) -> Event:
        changes: dict[str, Any] = {"event_id": f"{seed}-{number}", "occurred_at": 1.7e9 + chance.random() * 1e6}
        if isinstance(event, PatternEvent):
            changes["symbol"] = f"{event.symbol}{chance.randrange(10)}"
        return event.model_copy(update=changes)

    history = [change(chance.choice(example_events()), number) for number in range(size)]
    assert all(len(events) > size / 20 for events in events_by_log(history).values())
    assert len({type(event) for event in history}) == len(EVENT_TYPES)
    return history


def events_by_log(history: list[Event]) -> dict[str, list[Event]]:
    """Group the events by the log to which they belong."""
    groups: dict[str, list[Event]] = {log: [] for log in LOGS}
    for event in history:
        groups[log_of(event.stream, len(LOGS))].append(event)
    return groups


def append(redis: Redis, history: list[Event]) -> None:
    """Append the events to their logs."""
    for log, events in events_by_log(history).items():
        EventLog(redis, log).append(new_events(events))
