"""The builds of each read model, stored in Redis as one value per read model, so that a switch is atomic."""

from collections.abc import Callable, Iterable, Sequence

import orjson

from infra.read_models.keys import fingerprints_key, versions_key
from infra.redis.connections import RedisClient
from infra.redis.functions import call
from projections.fingerprint import ProjectionCode
from projections.versions import Build, Versions


def read_versions(client: RedisClient, names: Iterable[str]) -> dict[str, Versions]:
    """Read the builds of several read models in one round trip."""
    read_models = list(names)
    with client.pipeline(transaction=False) as pipeline:
        for name in read_models:
            pipeline.get(versions_key(name))
        replies: list[bytes | None] = pipeline.execute()
    return {name: parse_versions(reply or b"") for name, reply in zip(read_models, replies, strict=True)}


def change_versions(client: RedisClient, name: str, transition: Callable[[Versions], Versions]) -> Versions:
    """Replace the builds of a read model by the result of ``transition``.

    If another process changes the builds at the same time, ``transition`` is called again with the changed builds.

    Args:
        client: A client of the server that has the read model.
        name: The name of the read model.
        transition: Derives the new builds from the stored builds. Its errors reach the caller.

    Returns:
        The new builds.
    """
    while True:
        stored: bytes = client.get(versions_key(name)) or b""  # type: ignore[assignment]
        versions = parse_versions(stored)
        changed = transition(versions)
        if changed == versions or call(client, "compare_and_set", [versions_key(name)], [stored, _pack(changed)]):
            return changed


def read_builders(client: RedisClient, codes: Sequence[ProjectionCode]) -> list[ProjectionCode | None]:
    """Read which code builds the version of each of these codes: the code of the first worker that folded it, or None.

    The reads take one round trip.
    """
    with client.pipeline(transaction=False) as pipeline:
        for code in codes:
            pipeline.hget(fingerprints_key(code.read_model), str(code.version))
        fingerprints: list[bytes | None] = pipeline.execute()
    return [
        code._replace(fingerprint=fingerprint.decode()) if fingerprint else None
        for code, fingerprint in zip(codes, fingerprints, strict=True)
    ]


def store_builders(client: RedisClient, codes: Sequence[ProjectionCode]) -> None:
    """Store that these codes build their versions, unless another code builds the version. One round trip.

    Only a worker that folds a build of the version may call this.
    """
    with client.pipeline(transaction=False) as pipeline:
        for code in codes:
            pipeline.hsetnx(fingerprints_key(code.read_model), str(code.version), code.fingerprint)
        pipeline.execute()


def parse_versions(stored: bytes) -> Versions:
    """Parse the stored builds of a read model. An empty value means no builds."""
    if not stored:
        return Versions()
    values = orjson.loads(stored)
    return Versions(
        live=_parse_build(values["live"]),
        previous=_parse_build(values["previous"]),
        building=_parse_build(values["building"]),
        held=values["held"],
        throttle=values["throttle"],
        dropping=tuple(Build.parse(text) for text in values["dropping"]),
        built=values["built"],
        unsound=_parse_build(values.get("unsound")),
    )


def _parse_build(text: str | None) -> Build | None:
    return Build.parse(text) if text else None


def _pack(versions: Versions) -> bytes:
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
