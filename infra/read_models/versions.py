"""The builds of each read model in Redis: one value a read model, exchanged as a whole, so that a switch is atomic."""

from collections.abc import Callable, Iterable

import orjson
from redis import Redis

from infra.read_models.keys import fingerprints_key, versions_key
from infra.redis.functions import call
from projections.versions import Build, Versions


def read_versions(client: Redis, names: Iterable[str]) -> dict[str, Versions]:
    """The builds of each of these read models, in one round trip."""
    asked = list(names)
    with client.pipeline(transaction=False) as pipeline:
        for name in asked:
            pipeline.get(versions_key(name))
        replies: list[bytes | None] = pipeline.execute()
    return {name: parse_versions(reply or b"") for name, reply in zip(asked, replies, strict=True)}


def change_versions(client: Redis, name: str, transition: Callable[[Versions], Versions]) -> Versions:
    """Let ``transition`` decide what follows from the builds there are; asked again if somebody else was quicker.

    Raises what ``transition`` raises.
    """
    while True:
        stored: bytes = client.get(versions_key(name)) or b""  # type: ignore[assignment]
        versions = parse_versions(stored)
        following = transition(versions)
        if following == versions or call(client, "compare_and_set", [versions_key(name)], [stored, _packed(following)]):
            return following


def fingerprint_of_version(client: Redis, name: str, version: int, fingerprint: str) -> str:
    """The fingerprint under which a version was first run; ``fingerprint`` if this is the first time."""
    with client.pipeline() as pipeline:
        pipeline.hsetnx(fingerprints_key(name), str(version), fingerprint)
        pipeline.hget(fingerprints_key(name), str(version))
        _, first = pipeline.execute()
    return str(first.decode())


def parse_versions(stored: bytes) -> Versions:
    """The builds as they are stored; empty: none yet."""
    if not stored:
        return Versions()
    values = orjson.loads(stored)
    return Versions(
        live=_build(values["live"]),
        previous=_build(values["previous"]),
        building=_build(values["building"]),
        held=values["held"],
        throttle=values["throttle"],
        dropping=tuple(Build.parse(text) for text in values["dropping"]),
        built=values["built"],
        unsound=_build(values.get("unsound")),
    )


def _build(text: str | None) -> Build | None:
    return Build.parse(text) if text else None


def _packed(versions: Versions) -> bytes:
    return orjson.dumps(
        {
            "live": versions.live and str(versions.live),
            "previous": versions.previous and str(versions.previous),
            "building": versions.building and str(versions.building),
            "held": versions.held,
            "throttle": versions.throttle,
            "dropping": list(map(str, versions.dropping)),
            "built": versions.built,
            "unsound": versions.unsound and str(versions.unsound),
        }
    )
