"""Redelivery changes no read model: the log drops events by their id, and the checkpoint refuses a batch that it has.

``evolve`` of some projections counts events and is not idempotent by itself (see ``tests/unit/test_projections.py``).
"""

import pytest
from redis import Redis

from domain.events import Event
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from projections.ports import CommitOutcome, Lease, Segment
from projections.registry import READ_MODELS
from tests.events import new_event
from tests.examples import EXAMPLES
from tests.oracles.read_models import ORACLES
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment

LOG = "market-0"


def append(log: EventLog, *events: Event) -> list[bool]:
    """Append each event by itself and return which the log knew already."""
    return [log.append([new_event(event)])[0].duplicate for event in events]


def begin(redis: Redis, name: str) -> tuple[EventLog, RedisStore, Lease]:
    store = RedisStore(redis)
    [lease] = store.lease([Segment(name, FIRST_BUILD, LOG)], "worker", 60)
    assert lease is not None
    return EventLog(redis, LOG), store, lease


@pytest.mark.parametrize("name", READ_MODELS)
def test_events_that_are_delivered_again_change_nothing(redis: Redis, name: str) -> None:
    """Each event comes twice, then the whole history comes again: between two folds and after both."""
    projection, history = READ_MODELS[name], EXAMPLES[name]
    log, store, lease = begin(redis, name)
    for event in history:
        assert append(log, event, event) == [False, True]
        while Projector(projection, log, store, lease).step(10, 0)[1]:
            pass
    assert all(append(log, *history, *history))
    assert Projector(projection, log, store, lease).step(10, 0)[1] == 0
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](list(history)))


@pytest.mark.parametrize("name", READ_MODELS)
def test_a_batch_that_is_folded_again_changes_nothing(redis: Redis, name: str) -> None:
    """A worker that did not hear of its commit folds from the former checkpoint: the store refuses the commit."""
    projection, history = READ_MODELS[name], EXAMPLES[name]
    log, store, lease = begin(redis, name)
    append(log, *history)
    for size in (1, len(history)):
        checkpoint = lease.checkpoint
        Projector(projection, log, store, lease).step(size, 0)
        for former in (checkpoint, checkpoint, 0):
            again = Lease(**{**vars(lease), "checkpoint": former})
            assert Projector(projection, log, store, again).step(size, 0)[0] is CommitOutcome.ALREADY_COMMITTED
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](list(history)))
