"""Long random histories in every partition of the market log."""

import random
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import seed as fixed_seed
from redis import Redis

from domain.events import EVENT_TYPES, Event, PatternEvent
from domain.streams import log_of, market_logs
from infra.log.event_log import EventLog
from tests.events import new_events
from tests.strategies import market_events as any_event

LOGS = market_logs(4)


def history_of(size: int, seed: int) -> list[Event]:
    """A long random history of the events that hypothesis' strategies draw, in every partition."""
    drawn: list[Event] = []

    @fixed_seed(seed)
    @settings(max_examples=500, phases=[Phase.generate], database=None, deadline=None)
    @given(any_event)
    def draw(event: Event) -> None:
        drawn.append(event)

    draw()
    chance = random.Random(seed)

    def moved(event: Event, number: int) -> Event:
        changes: dict[str, Any] = {"event_id": f"{seed}-{number}", "occurred_at": 1.7e9 + chance.random() * 1e6}
        if isinstance(event, PatternEvent):
            changes["symbol"] = f"{event.symbol}{chance.randrange(10)}"
        return event.model_copy(update=changes)

    history = [moved(chance.choice(drawn), number) for number in range(size)]
    assert all(len(events) > size / 20 for events in by_log(history).values())
    assert len({type(event) for event in history}) == len(EVENT_TYPES)
    return history


def by_log(history: list[Event]) -> dict[str, list[Event]]:
    split: dict[str, list[Event]] = {log: [] for log in LOGS}
    for event in history:
        split[log_of(event.stream, len(LOGS))].append(event)
    return split


def append(redis: Redis, history: list[Event]) -> None:
    for log, events in by_log(history).items():
        EventLog(redis, log).append(new_events(events))
