"""Dead letters on a real server: bounded by count, bytes and age, with a count of what was dropped."""

import time

from redis import Redis

from domain.announcements import DeadLetter
from infra.recording.dead_letters import DeadLetters, letter_id


def letter(payload: bytes) -> DeadLetter:
    return DeadLetter(letter_id("c", payload), "c", payload, "not-json", "it is not JSON", time.time(), "http")


def desk(redis: Redis, *, count: int = 100, size: int = 1_000_000, age: float = 60) -> DeadLetters:
    return DeadLetters(redis, max_count=count, max_bytes=size, max_age=age)


def test_the_same_message_is_one_letter(redis: Redis) -> None:
    letters = desk(redis)
    letters.store([letter(b"a"), letter(b"b")])
    letters.store([letter(b"a")])
    assert [(kept.payload, kept.times) for kept in letters.page(None, 10)] == [(b"b", 1), (b"a", 2)]


def test_the_oldest_are_dropped_beyond_the_count(redis: Redis) -> None:
    letters = desk(redis, count=3)
    assert letters.store([letter(b"%d" % number) for number in range(5)]) == 2
    assert [kept.payload for kept in letters.page(None, 10)] == [b"4", b"3", b"2"]
    assert letters.stats().dropped == 2
    assert len(redis.keys("*letter:*")) == 3


def test_the_oldest_are_dropped_beyond_the_bytes(redis: Redis) -> None:
    letters = desk(redis, size=2_500)
    letters.store([letter(bytes([number]) * 1_000) for number in range(4)])
    stats = letters.stats()
    assert (stats.count, stats.bytes, stats.dropped) == (2, 2_000, 2)


def test_ten_megabytes_are_kept_whole(redis: Redis) -> None:
    letters = desk(redis, size=64_000_000)
    body = b"\xff" * 10_000_000
    letters.store([letter(body)])
    [kept] = letters.page(None, 1)
    assert kept.payload == body


def test_old_letters_go(redis: Redis) -> None:
    desk(redis, age=60).store([letter(b"a")])
    assert desk(redis, age=-1).page(None, 10) == []
    assert desk(redis).stats().dropped == 1


def test_pages_give_each_letter_once(redis: Redis) -> None:
    letters = desk(redis)
    letters.store([letter(b"%d" % number) for number in range(25)])
    seen = []
    before = None
    while page := letters.page(before, 7):
        seen += [kept.payload for kept in page]
        before = page[-1].number
    assert seen == [b"%d" % number for number in reversed(range(25))]


def test_discard(redis: Redis) -> None:
    letters = desk(redis)
    letters.store([letter(b"abc")])
    assert letters.discard(letter_id("c", b"abc"))
    assert not letters.discard(letter_id("c", b"abc"))
    assert letters.get(letter_id("c", b"abc")) is None
    assert letters.stats().bytes == 0
