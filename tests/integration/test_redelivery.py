"""Redelivered events on real servers: they change no read model.

The log drops an event whose id it has, and the store refuses a batch behind the checkpoint. Both are needed, because
``evolve`` of some projections counts events and is not idempotent (see ``tests/unit/test_projections.py``).
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
    """Append each event with a call of its own. Return for each event whether the log already had it."""
    return [log.append([new_event(event)])[0].duplicate for event in events]


def create_segment(redis: Redis, name: str) -> tuple[EventLog, RedisStore, Lease]:
    store = RedisStore(redis)
    [lease] = store.lease([Segment(name, FIRST_BUILD, LOG)], "worker", 60)
    assert lease is not None
    return EventLog(redis, LOG), store, lease


@pytest.mark.parametrize("name", READ_MODELS)
def test_events_that_are_appended_again_change_no_read_model(redis: Redis, name: str) -> None:
    """Each event comes twice before it is folded. The complete history comes twice more after the last fold."""
    projection, history = READ_MODELS[name], EXAMPLES[name]
    log, store, lease = create_segment(redis, name)
    for event in history:
        assert append(log, event, event) == [False, True]
        while Projector(projection, log, store, lease).step(10, 0)[1]:
            pass
    assert all(append(log, *history, *history))
    assert Projector(projection, log, store, lease).step(10, 0)[1] == 0
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](list(history)))


@pytest.mark.parametrize("name", READ_MODELS)
def test_a_batch_that_is_folded_again_changes_no_read_model(redis: Redis, name: str) -> None:
    """A worker that missed the reply to its commit folds from the former checkpoint. The store refuses its commit."""
    projection, history = READ_MODELS[name], EXAMPLES[name]
    log, store, lease = create_segment(redis, name)
    append(log, *history)
    for size in (1, len(history)):
        checkpoint = lease.checkpoint
        Projector(projection, log, store, lease).step(size, 0)
        for former_checkpoint in (checkpoint, checkpoint, 0):
            former_lease = Lease(**{**vars(lease), "checkpoint": former_checkpoint})
            assert Projector(projection, log, store, former_lease).step(size, 0)[0] is CommitOutcome.ALREADY_COMMITTED
    assert_same_content(load_segment(redis, projection, LOG), ORACLES[name](list(history)))
