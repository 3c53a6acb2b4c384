"""Dead letters on a real Valkey: the limits of count, bytes and age, paging and discarding."""

import time

from redis import Redis

from domain.announcements import DeadLetter
from infra.recording.dead_letters import DeadLetters, letter_id


def letter(payload: bytes) -> DeadLetter:
    return DeadLetter(letter_id("c", payload), "c", payload, "not-json", "it is not JSON", time.time(), "http")


def open_dead_letters(redis: Redis, *, count: int = 100, size: int = 1_000_000, age: float = 60) -> DeadLetters:
    return DeadLetters(redis, max_count=count, max_bytes=size, max_age=age)


def test_a_repeated_message_is_one_dead_letter(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"a"), letter(b"b")])
    letters.store([letter(b"a")])
    assert [(stored.payload, stored.times) for stored in letters.page(None, 10)] == [(b"b", 1), (b"a", 2)]


def test_the_oldest_dead_letters_are_dropped_over_the_limit_of_count(redis: Redis) -> None:
    letters = open_dead_letters(redis, count=3)
    assert letters.store([letter(b"%d" % number) for number in range(5)]) == 2
    assert [stored.payload for stored in letters.page(None, 10)] == [b"4", b"3", b"2"]
    assert letters.stats().dropped == 2
    assert len(redis.keys("*letter:*")) == 3


def test_the_oldest_dead_letters_are_dropped_over_the_limit_of_bytes(redis: Redis) -> None:
    letters = open_dead_letters(redis, size=2_500)
    letters.store([letter(bytes([number]) * 1_000) for number in range(4)])
    stats = letters.stats()
    assert (stats.count, stats.bytes, stats.dropped) == (2, 2_000, 2)


def test_a_message_of_ten_megabytes_is_stored_completely(redis: Redis) -> None:
    letters = open_dead_letters(redis, size=64_000_000)
    body = b"\xff" * 10_000_000
    letters.store([letter(body)])
    [stored] = letters.page(None, 1)
    assert stored.payload == body


def test_old_dead_letters_are_dropped(redis: Redis) -> None:
    open_dead_letters(redis, age=60).store([letter(b"a")])
    assert open_dead_letters(redis, age=-1).page(None, 10) == []
    assert open_dead_letters(redis).stats().dropped == 1


def test_pages_contain_each_dead_letter_once(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"%d" % number) for number in range(25)])
    payloads = []
    before = None
    while page := letters.page(before, 7):
        payloads += [stored.payload for stored in page]
        before = page[-1].number
    assert payloads == [b"%d" % number for number in reversed(range(25))]


def test_a_discarded_dead_letter_is_gone(redis: Redis) -> None:
    letters = open_dead_letters(redis)
    letters.store([letter(b"abc")])
    assert letters.discard(letter_id("c", b"abc"))
    assert not letters.discard(letter_id("c", b"abc"))
    assert letters.get(letter_id("c", b"abc")) is None
    assert letters.stats().bytes == 0
