"""Encryption of states with the keys of users: a state is bound to its key and its place, and nothing else opens it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.codec import decode, encode, is_encrypted, topic_of
from domain.log import LogEntry
from domain.user_events import UserEvent, UserForgotten
from infra.user_keys.encryption import DecryptionError, Place, UserKey, decrypt, encrypt, generation_of
from infra.user_keys.key_store import destroyed_keys, parse_key, reveal
from tests.strategies import user_events

places = st.builds(Place, st.text(max_size=8), st.integers(0, 2**53), st.text(max_size=8))
keys = st.builds(UserKey, st.integers(1, 2**31), st.binary(min_size=32, max_size=32))


def log_entry(event: UserEvent, version: int = 1) -> LogEntry:
    return LogEntry(7, event.stream, version, topic_of(type(event)), event.event_id, 1.0, encode(event), "http")


def encrypted(entry: LogEntry, key: UserKey) -> LogEntry:
    return entry._replace(state=encrypt(key, Place(entry.stream, entry.version, entry.topic), entry.state))


def other_secret(key: UserKey) -> UserKey:
    return UserKey(key.generation, bytes(byte ^ 1 for byte in key.secret))


@given(keys, places, st.binary())
def test_a_state_is_decrypted_with_its_key_at_its_place(key: UserKey, place: Place, state: bytes) -> None:
    stored = encrypt(key, place, state)
    assert is_encrypted(stored)
    assert stored != encrypt(key, place, state)
    assert (generation_of(stored), decrypt(key, place, stored)) == (key.generation, state)


@given(keys, keys, places, places, st.binary())
def test_another_key_and_another_place_are_refused(
    key: UserKey, other_key: UserKey, place: Place, other_place: Place, state: bytes
) -> None:
    stored = encrypt(key, place, state)
    for wrong in {(other_key, place), (key, other_place), (UserKey(key.generation, b""), place)} - {(key, place)}:
        with pytest.raises(DecryptionError):
            decrypt(*wrong, stored)


@given(keys, places, st.binary(), st.data())
def test_a_changed_state_is_refused(key: UserKey, place: Place, state: bytes, data: st.DataObject) -> None:
    stored = encrypt(key, place, state)
    at = data.draw(st.integers(0, len(stored) - 1))
    changed = (
        stored[:at] + bytes([data.draw(st.integers(0, 255).filter(lambda each: each != stored[at]))]) + stored[at + 1 :]
    )
    try:
        assert decrypt(key, place, changed) == state
    except DecryptionError:
        return
    # Only the spelling was changed: base64 of the last bits, or blanks in the JSON.
    assert (generation_of(changed), len(changed)) == (key.generation, len(stored))


@given(user_events, keys)
def test_an_entry_is_revealed_with_the_key_of_its_user(event: UserEvent, key: UserKey) -> None:
    entry = log_entry(event)
    stored = encrypted(entry, key)
    assert reveal(stored, key) == entry
    assert reveal(entry, key) == entry
    for missing in (None, UserKey(key.generation - 1, key.secret), other_secret(key)):
        unreadable = reveal(stored, missing)
        assert unreadable == stored
        with pytest.raises(ValueError, match="encrypted"):
            decode(unreadable.topic, unreadable.event_id, unreadable.state)


@given(user_events, keys, st.integers(0, 3))
def test_an_entry_whose_key_is_destroyed_is_read_as_the_forgetting(event: UserEvent, key: UserKey, later: int) -> None:
    entry = encrypted(log_entry(event), key)
    generation = key.generation + later
    forgotten = reveal(entry, UserKey(generation, b"" if later == 0 else bytes(32)))
    read = decode(forgotten.topic, forgotten.event_id, forgotten.state)
    assert isinstance(read, UserForgotten)
    assert (read.user, read.generation, forgotten.position) == (event.user, key.generation, entry.position)


def test_events_destroy_the_key_of_their_own_user_only() -> None:
    def forgotten(user: str, generation: int) -> UserForgotten:
        return UserForgotten(event_id="", occurred_at=1.0, source="operator", user=user, generation=generation)

    entries = [
        log_entry(forgotten("alice", 1)),
        log_entry(forgotten("alice", 2), 2),
        log_entry(forgotten("bob", 1))._replace(stream="user-carol"),
        log_entry(forgotten("dora", 1))._replace(state=b"no JSON"),
    ]
    assert destroyed_keys(entries) == {"alice": UserKey(2, b"")}


@given(keys)
def test_a_key_survives_its_stored_form(key: UserKey) -> None:
    assert parse_key(b"%d %b" % key) == key
    assert parse_key(b"%d " % key.generation) == UserKey(key.generation, b"")
