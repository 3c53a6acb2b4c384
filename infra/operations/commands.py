"""What an operator can do about the read models: build one anew, go back, have parked keys tried again."""

from collections.abc import Iterator
from itertools import islice

from redis import Redis

from infra.read_models.checkpoints import logs_of
from infra.read_models.keys import SegmentKeys
from infra.read_models.versions import change_versions, read_versions
from projections.ports import Segment
from projections.registry import READ_MODELS
from projections.versions import Versions
from readapi.ports.errors import NoSuchReadModelError

KEYS_AT_ONCE = 1_000


def check_read_model_name(name: str) -> None:
    """Raises NoSuchReadModelError."""
    if name not in READ_MODELS:
        raise NoSuchReadModelError(f"there is no read model {name!r}: there are {', '.join(READ_MODELS)}")


def replay(client: Redis, name: str, *, held: bool, throttle: int) -> Versions:
    """Have workers build a read model anew; a build that is under way is joined.

    It is of this code's version, or of the live one's if that is later: an old process does not go back by itself.
    ``throttle`` is in events a second for each segment, 0: no limit. Raises NoSuchReadModelError, NoSuchBuildError.
    """
    check_read_model_name(name)

    def replayed(versions: Versions) -> Versions:
        version = max(READ_MODELS[name].version, versions.live.version if versions.live else 0)
        return versions.replayed(version, held=held, throttle=throttle)

    return change_versions(client, name, replayed)


def rollback(client: Redis, name: str) -> Versions:
    """Let the previous build answer again. Raises NoSuchReadModelError, NoSuchBuildError."""
    check_read_model_name(name)
    return change_versions(client, name, Versions.rolled_back)


def retry_parked(client: Redis, name: str, key: str | None = None) -> list[str]:
    """Have a parked key, or all, tried again in every build that has it parked; those that are, in order.

    Workers do so in a moment, each key's events in order. Raises NoSuchReadModelError.
    """
    check_read_model_name(name)
    retried: set[str] = set()
    for keys in _segments(client, name):
        for parked in _parked(client, keys, key):
            client.sadd(keys.retry, *parked)
            retried.update(parked)
    return sorted(retried)


def _segments(client: Redis, name: str) -> list[SegmentKeys]:
    builds = read_versions(client, [name])[name].maintained
    return [SegmentKeys(Segment(name, build, log)) for build in builds for log in logs_of(client, name)]


def _parked(client: Redis, keys: SegmentKeys, key: str | None) -> Iterator[list[str]]:
    """The keys that are parked in a segment, or the one asked for if it is, some at a time."""
    if key is not None:
        if client.hexists(keys.parked, key):
            yield [key]
        return
    found = (parked.decode() for parked, _ in client.hscan_iter(keys.parked, count=KEYS_AT_ONCE))
    while some := list(islice(found, KEYS_AT_ONCE)):
        yield some
