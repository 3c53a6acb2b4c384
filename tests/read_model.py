"""The content of a read model in Redis, in the form that the oracles produce."""

from dataclasses import asdict
from typing import Any

from redis import Redis

from infra.read_models.keys import SegmentKeys
from projections.base import Projection, decode_row
from projections.ports import Segment
from projections.versions import Build
from tests.oracles.read_models import ReadModelContent

FIRST_BUILD = Build(1, 1)
"""The first build of a read model whose segments a test writes itself."""


def load_segment(
    client: Redis, projection: Projection[Any, Any], log: str, build: Build = FIRST_BUILD
) -> ReadModelContent:
    """Load the content of one segment from Redis."""
    keys = SegmentKeys(Segment(projection.name, build, log))
    model = ReadModelContent()
    for key, document in client.hgetall(keys.rows).items():
        stored = decode_row(projection.row, document)
        model.rows[key.decode()] = asdict(stored.row)
        model.positions[key.decode()] = stored.position
    for name in client.scan_iter(keys.prefix + "index:*"):
        index, _, group = name.decode().removeprefix(keys.prefix + "index:").partition(":")
        model.indexes[index, group] = {
            member.decode(): score for member, score in client.zrange(name, 0, -1, withscores=True)
        }
    for name in client.scan_iter(keys.prefix + "text:*"):
        texts = client.hgetall(name)
        model.texts[name.decode().removeprefix(keys.prefix + "text:")] = {
            key.decode(): text.decode() for key, text in texts.items()
        }
    for name in client.scan_iter(keys.prefix + "count:*"):
        count = name.decode().removeprefix(keys.prefix + "count:")
        for group, number in client.zrange(name, 0, -1, withscores=True):
            model.counts[count, group.decode()] = int(number)
    for group, members in client.hgetall(keys.groups).items():
        model.groups[group.decode()] = set(members.decode().split("\n"))
    return model


def assert_same_content(actual: ReadModelContent, expected: ReadModelContent) -> None:
    """Compare part by part, so that a failure names the part."""
    assert actual.rows == expected.rows
    assert actual.positions == expected.positions
    assert dict(actual.indexes) == dict(expected.indexes)
    assert dict(actual.texts) == dict(expected.texts)
    assert dict(actual.counts) == dict(expected.counts)
    assert dict(actual.groups) == dict(expected.groups)
