"""Properties of result messages: any input is read or refused, and the spelling of JSON does not change an event."""

import json
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
from hypothesis import assume, given
from hypothesis import strategies as st

from domain import wire
from tests.unit.test_wire import DETECTION, RECEIVED_AT, check, read, read_one, samples

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
valid_messages = [
    (line.values[0]["channel"], line.values[0]["payload"])
    for line in samples("valid.jsonl")
    if isinstance(line.values[0]["payload"], dict)
]
field_names = st.sampled_from(
    sorted({name for _, message in valid_messages for level in (message, message.get("data", {})) for name in level})
)


def mutate(draw: st.DrawFn, message: dict[str, Any]) -> dict[str, Any]:
    """Return the message with a field removed, replaced, added, nested or wrapped."""
    present = st.sampled_from(sorted(message)) if message else field_names
    match draw(st.sampled_from(["remove", "replace", "add", "mutate inside", "wrap", "batch"])):
        case "remove":
            name = draw(present)
            return {key: value for key, value in message.items() if key != name}
        case "replace":
            return {**message, draw(present): draw(json_values)}
        case "add":
            return {**message, draw(field_names): draw(json_values)}
        case "mutate inside":
            inner = [name for name, value in sorted(message.items()) if isinstance(value, dict)]
            return {**message, **{name: mutate(draw, message[name]) for name in inner}}
        case "wrap":
            return {
                "event_type": draw(st.sampled_from(["pattern_detected", "pattern_updated"])),
                "data": message,
            }
        case _:
            return {"event_type": "patterns_batch", "patterns": [message, draw(json_values)]}


@st.composite
def mutated_messages(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    channel, message = draw(st.sampled_from(valid_messages))
    for _ in range(draw(st.integers(1, 4))):
        message = mutate(draw, message)
    return channel, message


channels = st.sampled_from(list(wire.CHANNELS))


@given(channels | st.text(), st.binary())
def test_any_bytes_are_read_or_refused(channel: str, payload: bytes) -> None:
    check(wire.read(channel, payload, RECEIVED_AT))


@given(channels, json_values)
def test_any_json_is_read_or_refused(channel: str, payload: Any) -> None:
    check(wire.read(channel, json.dumps(payload).encode(), RECEIVED_AT))


@given(mutated_messages(), st.integers(0, 2**20))
def test_any_mutation_of_a_valid_message_is_read_or_refused(message: tuple[str, Any], cut: int) -> None:
    channel, payload = message
    complete = json.dumps(payload).encode()
    check(wire.read(channel, complete, RECEIVED_AT))
    check(wire.read(channel, complete[: cut % len(complete)], RECEIVED_AT))


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), json_values, max_size=6))
def test_unknown_fields_are_preserved(fields: dict[str, Any]) -> None:
    payload = json.dumps({**DETECTION, "data": {"inner": 1}, **fields}).encode()
    assume(b"\\u0000" not in payload)
    (event,) = wire.read(wire.PATTERNS, payload, RECEIVED_AT).events
    assert event.extra == {"inner": 1, **orjson.loads(json.dumps(fields))}


def shuffled(value: Any, order: random.Random) -> Any:
    """Return the JSON value with the keys of each object in another order."""
    if isinstance(value, list):
        return [shuffled(item, order) for item in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], order) for key in order.sample(sorted(value), len(value))}
    return value


@given(st.sampled_from(valid_messages), st.randoms(use_true_random=False), st.sampled_from([None, 0, 3]))
def test_neither_key_order_nor_whitespace_changes_an_event(
    message: tuple[str, Any], order: random.Random, indent: int | None
) -> None:
    channel, payload = message
    rewritten = json.dumps(shuffled(payload, order), indent=indent, ensure_ascii=False).encode()
    assert wire.read(channel, rewritten, RECEIVED_AT) == read(payload, channel)


@given(json_values, json_values)
def test_different_content_has_different_event_ids(first: Any, second: Any) -> None:
    results = [read({**DETECTION, "note": note}) for note in (first, second)]
    assume(not any(result.refusals for result in results))
    ids = {result.events[0].event_id for result in results}
    stored = {orjson.dumps(orjson.loads(json.dumps(note)), option=orjson.OPT_SORT_KEYS) for note in (first, second)}
    assert len(ids) == len(stored)


@given(
    st.datetimes(datetime(2001, 9, 10), datetime(2099, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    st.integers(-23 * 60, 23 * 60),
)
def test_every_spelling_of_a_time_is_the_same_time(time: datetime, offset: int) -> None:
    time = time.replace(microsecond=time.microsecond // 1000 * 1000)
    milliseconds = round(time.timestamp() * 1000)
    spellings = [
        milliseconds / 1000,
        str(milliseconds / 1000),
        milliseconds,
        str(milliseconds),
        float(milliseconds),
        milliseconds * 1000,
        time.isoformat(),
        time.isoformat(" "),
        time.replace(tzinfo=None).isoformat(),
        time.isoformat().replace("+00:00", "Z"),
        time.astimezone(timezone(timedelta(minutes=offset))).isoformat(),
    ]
    assert {read_one({**DETECTION, "timestamp": spelling}).detected_at for spelling in spellings} == {time.timestamp()}
