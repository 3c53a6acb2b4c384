"""Dead letters on a real Valkey: the limits of count, bytes and age, paging and discarding."""

import time

import pytest
from redis import Redis

from domain.announcements import DeadLetter, Receipt
from domain.wire import Refusal
from infra.log.errors import UnsuitableServerError
from infra.log.handle import LogOptions
from infra.recording.dead_letters import DeadLetters, letter_id


def letter(payload: bytes) -> DeadLetter:
    return DeadLetter(letter_id("c", payload), "c", payload, "not-json", "it is not JSON", time.time(), "http")


def id_of(payload: bytes) -> str:
    return letter_id("c", payload)


def open_dead_letters(redis: Redis, *, count: int = 100, size: int = 1_000_000, age: float = 60) -> DeadLetters:
    return DeadLetters(redis, max_count=count, max_bytes=size, max_age=age)


def test_a_repeated_message_is_one_dead_letter(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"a"), letter(b"b")])
    letters.store([letter(b"a")])
    assert [(stored.id, stored.times) for stored in letters.page(None, 10)] == [(id_of(b"b"), 1), (id_of(b"a"), 2)]


def test_the_oldest_dead_letters_are_dropped_over_the_limit_of_count(redis: Redis) -> None:
    letters = open_dead_letters(redis, count=3)
    assert letters.store([letter(b"%d" % number) for number in range(5)]) == 2
    assert [stored.id for stored in letters.page(None, 10)] == [id_of(b"4"), id_of(b"3"), id_of(b"2")]
    assert letters.stats().dropped == 2
    assert len(redis.keys("*letter:*")) == 3


def test_the_oldest_dead_letters_are_dropped_over_the_limit_of_bytes(redis: Redis) -> None:
    """The channel and the reason count, too."""
    letters = open_dead_letters(redis, size=10_500)
    letters.store([letter(bytes([number]) * 1_000) for number in range(11)])
    stats = letters.stats()
    assert (stats.count, stats.bytes, stats.dropped) == (10, 10 * (1_000 + len("c") + len("it is not JSON")), 1)


def test_a_message_that_is_too_large_is_cut_and_leaves_the_others(redis: Redis) -> None:
    letters = open_dead_letters(redis, size=10_000)
    letters.store([letter(b"a"), letter(b"x" * 1_000_000)])
    large, small = letters.page(None, 10)
    assert (small.id, large.payload_bytes) == (id_of(b"a"), 2_500)
    assert "only the first 2500 of 1000000 bytes are stored" in large.reason
    stored = letters.get(large.id)
    assert stored is not None
    assert stored.payload == b"x" * 2_500


def test_long_channels_and_reasons_are_cut(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"a")._replace(channel="c" * 1_000_000, reason="r" * 1_000_000)])
    [stored] = letters.page(None, 10)
    assert (len(stored.channel), len(stored.reason)) == (1_000, 4_000)


def test_a_message_of_ten_megabytes_is_stored_completely(redis: Redis) -> None:
    letters = open_dead_letters(redis, size=100_000_000)
    body = b"\xff" * 10_000_000
    letters.store([letter(body)])
    stored = letters.get(id_of(body))
    assert stored is not None
    assert (stored.payload, stored.payload_bytes) == (body, len(body))


def test_old_dead_letters_are_dropped(redis: Redis) -> None:
    open_dead_letters(redis, age=60).store([letter(b"a")])
    expired = open_dead_letters(redis, age=-1)
    assert expired.page(None, 10) == []
    assert expired.store([]) == 1
    assert expired.stats().dropped == 1


def test_a_message_that_waited_for_a_recorder_is_listed_as_long_as_any_other(redis: Redis) -> None:
    """The age counts from the storing of the dead letter, not from the receipt of the message."""
    letters = open_dead_letters(redis, age=60)
    letters.store([letter(b"a")._replace(received_at=time.time() - 3_600)])
    assert [stored.id for stored in letters.page(None, 10)] == [id_of(b"a")]


def test_pages_contain_each_dead_letter_once(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"%d" % number) for number in range(25)])
    ids: list[str] = []
    before = None
    while page := letters.page(before, 7):
        ids += [stored.id for stored in page]
        before = page[-1].number
    assert ids == [id_of(b"%d" % number) for number in reversed(range(25))]


def test_a_discarded_dead_letter_is_gone(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"abc")])
    assert letters.discard(letter_id("c", b"abc"))
    assert not letters.discard(letter_id("c", b"abc"))
    assert letters.get(letter_id("c", b"abc")) is None
    assert letters.stats().bytes == 0


def test_a_refused_retry_of_a_discarded_dead_letter_does_not_bring_it_back(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"abc"), letter(b"def")])
    kept, discarded = (letters.get(id_of(payload)) for payload in (b"abc", b"def"))
    assert kept
    assert discarded
    letters.discard(discarded.id)
    for each in (kept, discarded):
        letters.record_failed_retry(each, Receipt((), (Refusal("wrong-type", "again"),), each.id))
    assert letters.get(discarded.id) is None
    assert [(stored.code, stored.reason, stored.retries) for stored in letters.page(None, 10)] == [
        ("wrong-type", "again", 1)
    ]
    letters.store([letter(b"def")])
    assert [stored.id for stored in letters.page(None, 10)] == [discarded.id, kept.id]


def test_a_dead_letter_is_as_durable_as_an_event(redis: Redis) -> None:
    """A server without replicas cannot store it if events must be on a replica before they are acknowledged."""
    replicated = LogOptions(durability="replicated", replicas=1)
    letters = DeadLetters(redis, replicated, max_count=100, max_bytes=1_000_000, max_age=60)
    with pytest.raises(UnsuitableServerError, match="needs 1 replicas and the server has 0"):
        letters.store([letter(b"a")])
    assert letters.stats().count == 0
