"""Hostile values for the readers: of messages, cursors, event ids and encrypted states."""

import json
import sys
from base64 import urlsafe_b64encode
from collections.abc import Callable
from types import FrameType
from typing import Any, get_args

import orjson
import pytest
from hypothesis import strategies as st

from domain import wire
from domain.codec import TOPIC_PREFIX, decode, encode
from domain.event_types import EVENT_TYPES
from domain.user_events import USER_EVENT_TYPES
from infra.user_keys.encryption import DecryptionError, Place, UserKey, decrypt, encrypt
from projections.columns import Kind
from projections.queries import Cursor
from readapi.http.cursors import Order, decode_cursor, decode_positions, encode_cursor, encode_positions
from readapi.http.parameters import SortOrder
from readapi.push.event_ids import parse_id, split_id
from tests.examples import EXAMPLES
from tests.fuzz.budget import TIMEOUT_SECONDS, fuzz
from tests.fuzz.mutations import mutated
from tests.unit.test_wire import RECEIVED_AT, check, samples
from tests.unit.test_wire_properties import channels, mutated_messages

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

STEPS_PER_BYTE = 30
"""Highest number of calls per byte of a message. A message of one byte takes fewer than ``FIXED_STEPS``."""

FIXED_STEPS = 3_000

PAYLOADS = [
    orjson.dumps(line.values[0]["payload"])
    for file in ("valid.jsonl", "invalid.jsonl")
    for line in samples(file)
    if "payload" in line.values[0]
]

ORDERS = [
    Order("confidence", order, kind, column)
    for order in get_args(SortOrder)
    for kind, column in (*((kind, "confidence") for kind in get_args(Kind)), (None, None))
]


def count_calls(function: Callable[[], Any]) -> tuple[Any, int]:
    """Call a function, and count the calls of functions inside it."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        return function(), calls
    finally:
        sys.setprofile(before)


def test_any_bytes_of_a_message_become_events_or_typed_refusals_in_linear_steps() -> None:
    def read(channel: str, payload: bytes) -> None:
        result, steps = count_calls(lambda: wire.read(channel, payload, RECEIVED_AT))
        check(result)
        assert steps <= FIXED_STEPS + STEPS_PER_BYTE * len(payload)

    fuzz(read, channels | st.text(max_size=80), st.binary() | mutated(PAYLOADS))


def test_any_mutation_of_a_valid_message_becomes_events_or_typed_refusals() -> None:
    def read(message: tuple[str, Any]) -> None:
        channel, payload = message
        check(wire.read(channel, json.dumps(payload).encode(), RECEIVED_AT))

    fuzz(read, mutated_messages())


cursor_texts = mutated(
    [
        *(encode_cursor(Cursor(value, "AAPL:Doji:daily:1"), ORDERS[0]).encode() for value in (0.5, "text", 1e300)),
        encode_positions({"market-0": 7, "users": 1}).encode(),
    ]
).map(lambda data: data.decode("latin-1"))
json_cursors = mutated([b'["confidence","desc",0.5,"A"]', b'["confidence","asc",null,"A"]', b'{"market-0":7}']).map(
    lambda data: urlsafe_b64encode(data).decode().rstrip("=")
)


def refusal_of(reader: Callable[[], object]) -> str | None:
    """Call a reader, and return the text of its refusal. Every other error fails the test."""
    try:
        reader()
    except ValueError as error:
        return str(error)
    return None


def test_any_text_is_decoded_as_the_cursor_that_encodes_to_it_or_refused() -> None:
    def read(text: str, order: Order) -> None:
        def read_cursor() -> None:
            assert encode_cursor(decode_cursor(text, order), order) == text

        def read_positions() -> None:
            assert encode_positions(decode_positions(text)) == text

        assert "cursor" in (refusal_of(read_cursor) or "cursor").replace("use the same order", "cursor")
        assert "cursor" in (refusal_of(read_positions) or "cursor")

    fuzz(read, st.text() | cursor_texts | json_cursors, st.sampled_from(ORDERS))


def test_any_text_is_parsed_as_an_event_id_or_refused() -> None:
    def read(text: str) -> None:
        positions, _ = split_id(text)
        assert refusal_of(lambda: parse_id(positions, {"patterns"})) != ""

    ids = mutated([b"patterns:1.3/market-0=1234-0,market-1=77-0;filters:0f1e2d3c4b5a6978"])
    fuzz(read, st.text() | ids.map(lambda data: data.decode("latin-1")))


def test_any_stored_state_is_decoded_or_refused() -> None:
    def read(topic: str, state: bytes) -> None:
        refusal = refusal_of(lambda: decode(topic, "id", state))
        assert refusal != ""

    topics = st.sampled_from([f"{TOPIC_PREFIX}{name}" for name in (*EVENT_TYPES, *USER_EVENT_TYPES)])
    states = [encode(event) for history in EXAMPLES.values() for event in history]
    fuzz(read, topics | st.text(), st.binary() | mutated(states))


def test_any_bytes_are_decrypted_unchanged_or_refused() -> None:
    key, place, state = UserKey.create(1), Place("user-alice", 1, "topic"), b'{"occurred_at":1.0}'

    def read(stored: bytes) -> None:
        try:
            decrypted = decrypt(key, place, stored)
        except DecryptionError:
            return
        assert decrypted == state

    fuzz(read, st.binary() | mutated([encrypt(key, place, state), encrypt(UserKey.create(2), place, state)]))
