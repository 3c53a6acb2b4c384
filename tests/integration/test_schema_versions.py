"""A replay of a history with every schema version of every event, as the bytes of the release that wrote them."""

from pathlib import Path

import orjson
import pytest
from redis import Redis

from domain.codec import decode, topic_of
from domain.event_types import EVENT_TYPES
from domain.user_events import USER_EVENT_TYPES
from infra.log.append import NewEvent
from infra.log.event_log import EventLog
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from projections.ports import Segment
from projections.registry import READ_MODELS
from tests.oracles.read_models import ORACLES
from tests.read_model import FIRST_BUILD, assert_same_content, load_segment

GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "events").glob("*.json"))


@pytest.mark.parametrize("name", READ_MODELS)
def test_every_read_model_folds_every_schema_version(redis: Redis, name: str) -> None:
    documents = [orjson.loads(file.read_bytes()) for file in GOLDEN]
    assert {document["topic"] for document in documents} == set(
        map(topic_of, (*EVENT_TYPES.values(), *USER_EVENT_TYPES.values()))
    )
    log = EventLog(redis, "market-0")
    events = [decode(document["topic"], document["event_id"], document["state"].encode()) for document in documents]
    log.append(
        [
            NewEvent(event.stream, document["topic"], document["state"].encode(), f"{number}")
            for number, (event, document) in enumerate(zip(events, documents, strict=True))
        ]
    )
    store, projection = RedisStore(redis), READ_MODELS[name]
    [lease] = store.lease([Segment(name, FIRST_BUILD, "market-0")], "replay", 60)
    assert lease is not None
    Projector(projection, log, store, lease).step(100, 0)
    as_stored = [event.model_copy(update={"event_id": f"{number}"}) for number, event in enumerate(events)]
    segment_content = load_segment(redis, projection, "market-0")
    assert_same_content(segment_content, ORACLES[name](as_stored))
    assert redis.hlen(f"tickview:{{{name}/market-0}}:1.1:parked") == 0
