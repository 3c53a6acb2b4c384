"""Commands whose replies are read later: words arrive unchanged, and no reply is taken for that to another command."""

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from infra.redis.sent_commands import LARGE_BYTES, SentCommands

ALL_BYTES = bytes(range(256))


@pytest.mark.parametrize("size", [0, 1, LARGE_BYTES - 1, LARGE_BYTES, LARGE_BYTES + 1, 2_000_000])
def test_words_of_every_size_arrive_unchanged(redis: Redis, size: int) -> None:
    word = (ALL_BYTES * (size // 256 + 1))[:size]
    commands = [("SET", "a", word), ("SET", "b", "ünlaut"), ("APPEND", "a", word), ("STRLEN", "a"), ("INCRBY", "n", 7)]
    assert SentCommands(redis, "a", commands).receive() == [b"OK", b"OK", 2 * size, 2 * size, 7]
    assert redis.get("a") == 2 * word
    assert redis.get("b") == "ünlaut".encode()


def test_an_error_is_the_reply_to_its_command(redis: Redis) -> None:
    replies = SentCommands(redis, "a", [("SET", "a", "text"), ("INCR", "a"), ("GET", "a")]).receive()
    assert replies is not None
    assert (replies[0], replies[2]) == (b"OK", b"text")
    assert isinstance(replies[1], ResponseError)


def test_without_its_connection_a_command_has_no_reply(redis: Redis, redis_url: str) -> None:
    sent = SentCommands(redis, "a", [("BLPOP", "a", 0)])
    with Redis.from_url(redis_url) as other:
        other.client_kill_filter(_type="normal", skipme=True)
    assert sent.receive() is None
    assert redis.ping()


def test_a_command_that_was_given_up_leaves_its_reply_to_no_other(redis: Redis) -> None:
    for number in range(3):
        sent = SentCommands(redis, "a", [("ECHO", f"{number}")])
        del sent
        assert redis.echo("mine") == b"mine"
        assert SentCommands(redis, "a", [("ECHO", "mine")]).receive() == [b"mine"]
