"""Helpers for tests that need all read models of a log: begin their first builds and fold them up to a position."""

from operator import methodcaller

from redis import Redis

from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Build


def begin_first_builds(redis: Redis) -> None:
    """Begin a build of every read model under the version of its code."""
    for name, projection in READ_MODELS.items():
        change_versions(redis, name, methodcaller("deployed", projection.version))


def fold_builds(redis: Redis, log: EventLog, number: int, upto: int | None = None, batch_size: int = 100) -> None:
    """Fold the build with this number of every read model up to the position ``upto``, or to the end of the log."""
    for name, projection in READ_MODELS.items():
        store = RedisStore(redis)
        [lease] = store.lease([Segment(name, Build(projection.version, number), log.name)], "worker", 60)
        assert lease is not None
        projector = Projector(projection, log, store, lease)
        while upto is None or lease.checkpoint < upto:
            size = batch_size if upto is None else min(batch_size, upto - lease.checkpoint)
            if not projector.step(size, 0)[1]:
                break
