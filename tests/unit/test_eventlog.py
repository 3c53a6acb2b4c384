"""The event log and its eventsourcing module without a server: transcoder, names of logs, settings of the factory."""

import pytest
from eventsourcing.persistence import JSONTranscoder
from hypothesis import given, settings
from hypothesis import strategies as st
from redis import Redis

from infra.eventlog import RedisFactory
from infra.eventlog.transcoder import FaithfulJSONTranscoder
from infra.log.event_log import EventLog

json_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(json_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner, min_size=3))
values = st.recursive(
    json_values,
    lambda inner: st.tuples(inner, inner) | st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)


@settings(max_examples=50)
@given(values)
def test_the_transcoder_decodes_every_value_that_it_encodes(value: object) -> None:
    transcoder = FaithfulJSONTranscoder()
    assert transcoder.decode(transcoder.encode(value)) == value


@given(json_values)
def test_the_transcoder_encodes_json_values_as_the_transcoder_of_the_library_does(value: object) -> None:
    assert FaithfulJSONTranscoder().encode(value) == JSONTranscoder().encode(value)


@pytest.mark.parametrize("name", ["", "a{b", "a}b"])
def test_a_log_refuses_a_name_that_cannot_be_a_hash_tag(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name a log"):
        EventLog(Redis(), name)


def test_the_factory_requires_the_url_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TICKVIEW_REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(EnvironmentError, match="set TICKVIEW_REDIS_URL"):
        RedisFactory({})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("TICKVIEW_DURABILITY", "perhaps", "durability.*'written', 'fsynced' or 'replicated'"),
        ("TICKVIEW_DEDUPE_WINDOW", "0", "dedupe_window.*greater than or equal to 1"),
        ("ORIGINATOR_ID_TYPE", "int", "must be 'uuid' or 'text'"),
    ],
)
def test_the_factory_refuses_invalid_settings(variable: str, value: str, message: str) -> None:
    with pytest.raises(EnvironmentError, match=message):
        RedisFactory({"TICKVIEW_REDIS_URL": "redis://127.0.0.1:1", variable: value})
