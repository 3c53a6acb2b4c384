"""``GET /api/patterns/scan?as_of=…`` on real processes: what the scan showed, it shows again; and what is refused."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import pytest

from readapi.http.read_model import parse_positions
from tests import servers
from tests.processes.api_service import api, detection, post
from tests.processes.roles import running_role, wait_until

SCAN = "/api/patterns/scan"


@contextmanager
def past(redis_url: str, dsn: str) -> Iterator[httpx.Client]:
    """All roles, and a client of the API."""
    settings = {"postgres_dsn": dsn, "wait_seconds": 20}
    with ExitStack() as stack:
        for role in ("record", "project", "archive"):
            stack.enter_context(running_role(role, redis_url=redis_url, **settings))
        yield stack.enter_context(api(redis_url, **settings))


class Seen(NamedTuple):
    """What the scan answered, and a moment at which it was so."""

    answers: dict[str, Any]
    moment: float


class Story(NamedTuple):
    """A service after a few announcements, what was seen meanwhile, and positions that cover all of it."""

    client: httpx.Client
    first: Seen
    second: Seen
    known: dict[str, str]
    began: float


# Each with a last page, so that the cursors of the answers are compared too.
QUERIES = (
    "fields=full",
    "fields=full&per_page=1",
    "sort_by=symbol&sort_order=asc",
    "sort_by=rs&per_page=2",
    "symbols=AAPL,MSFT&rs_min=1.1",
    "confidence_min=0&timeframe=daily&per_page=2&page=2",
)


def shown(client: httpx.Client, query: str, known: dict[str, str]) -> dict[str, Any]:
    """What of an answer must be as it was then."""
    answer = client.get(f"{SCAN}?{query}", headers=known)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return {name: content[name] for name in ("patterns", "pagination", "next")}


def timeless(answer: dict[str, Any]) -> dict[str, Any]:
    """The same without the spans of time, which go on from one second to the next."""
    rows = [{name: value for name, value in row.items() if name not in ("time", "exp")} for row in answer["patterns"]]
    return {**answer, "patterns": rows}


def see(client: httpx.Client, known: dict[str, str]) -> Seen:
    return Seen({query: shown(client, query, known) for query in QUERIES}, time.time())


@pytest.fixture(scope="module")
def story(postgres_18_dsn: str) -> Iterator[Story]:
    """Detections; then one changed, one expired by its producer, one elapsed by itself, and one announced late."""
    with (
        servers.valkey() as server,
        servers.new_database(postgres_18_dsn) as dsn,
        past(server.connection_url, dsn) as client,
    ):
        # A minute and a half ago, for an hour and a half: the whole minutes and hours shown do not change meanwhile.
        began = time.time()
        times = {"timestamp": began - 90, "expires_at": began + 5_400}
        rows = [detection(symbol, rs=1.2, **times) for symbol in ("AAPL", "MSFT", "NVDA", "BRK.B")]
        brief = detection("TSLA", **{**times, "expires_at": began + 4})
        known = post(client, [*rows, brief])
        assert client.get(f"{SCAN}?symbols=TSLA", headers=known).json()["pagination"]["total"] <= 1
        wait_until(lambda: client.get(f"{SCAN}?symbols=TSLA").json()["pagination"]["total"] == 0, "it has elapsed")
        first = see(client, known)
        changed = detection("AAPL", rs=1.9, **{**times, "confidence": 0.95})
        ended = {"event_type": "pattern_expired", "data": {"symbol": "MSFT", "pattern": "Weekly_Breakout"}}
        ended["data"]["timestamp"] = times["timestamp"]
        late = detection("LATE", **{**times, "timestamp": began - 600})
        later = post(client, [changed | {"timestamp": began}, ended, late])
        known = {name: f"{positions},{later[name]}" for name, positions in known.items()}
        second = see(client, known)
        yield Story(client, first, second, known, began)


@pytest.mark.parametrize("query", QUERIES)
def test_as_of_a_moment_is_what_the_scan_showed_then(story: Story, query: str) -> None:
    assert story.first.answers[query] != story.second.answers[query]
    for seen in story[1:3]:
        for moment in (repr(seen.moment), datetime.fromtimestamp(seen.moment, UTC).isoformat().replace("+00:00", "Z")):
            assert shown(story.client, f"{query}&as_of={moment}", story.known) == seen.answers[query]


def symbols(story: Story, query: str) -> list[str]:
    rows = shown(story.client, f"confidence_min=0&sort_by=symbol&sort_order=asc&{query}", story.known)["patterns"]
    return [row["symbol"] for row in rows]


def test_what_elapsed_is_shown_before_and_not_after(story: Story) -> None:
    assert "TSLA" not in symbols(story, f"as_of={story.first.moment!r}")
    [row] = shown(story.client, f"symbols=TSLA&as_of={story.began + 3.99!r}&fields=full", story.known)["patterns"]
    assert (row["exp"], row["time"]) == ("0s", "1m")


def test_what_was_announced_late_is_there_earlier_by_the_time_of_the_market(story: Story) -> None:
    five_minutes_ago = f"{story.began - 300!r}"
    assert symbols(story, f"as_of={five_minutes_ago}") == []
    assert symbols(story, f"as_of_valid={five_minutes_ago}") == ["LATE"]
    assert "LATE" not in symbols(story, f"as_of={story.first.moment!r}")
    assert "LATE" in symbols(story, f"as_of_valid={story.first.moment!r}")


def test_pages_by_cursor(story: Story) -> None:
    query = f"as_of={story.first.moment!r}&per_page=1"
    whole = [row["id"] for row in story.first.answers["fields=full"]["patterns"]]
    followed: list[str] = []
    content = shown(story.client, query, story.known)
    while True:
        followed += (row["id"] for row in content["patterns"])
        if content["next"] is None:
            break
        content = shown(story.client, f"{query}&cursor={content['next']}", story.known)
    assert followed == whole
    assert len(whole) == 4


def test_the_envelope_says_where_the_answer_comes_from(story: Story) -> None:
    query = f"{SCAN}?as_of={story.second.moment!r}"
    answer = story.client.get(query, headers=story.known)
    content = answer.json()
    assert content["cache_info"] == {"read_model": "pattern_history", "version": 1, "build": "1.1"}
    assert content["performance"]["source"] == "archive"
    positions = parse_positions(answer.headers["TickView-Position"])
    wanted = parse_positions(story.known["TickView-Min-Position"])
    assert sorted(positions) == [f"market-{number}" for number in range(4)]
    assert all(positions[log] >= position for log, position in wanted.items())
    again = story.client.get(query, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert story.client.head(query).status_code == 200


def test_a_position_that_is_not_reached_is_told(story: Story) -> None:
    wanted = {"TickView-Min-Position": "market-9=0"}
    answer = story.client.get(f"{SCAN}?as_of=5", headers=wanted)
    assert answer.status_code == 504
    assert "pattern_history" in answer.json()["detail"]
    assert "market-9 is not a log of this read model" in answer.json()["detail"]
    assert story.client.get(f"{SCAN}?as_of=5", headers={"TickView-Min-Position": "5"}).status_code == 400


@pytest.mark.parametrize(
    ("query", "field", "says"),
    [
        ("as_of=2999-01-01", "as_of", "lies in the future"),
        ("as_of_valid=32472144000", "as_of_valid", "lies in the future"),
        ("as_of=5&as_of_valid=5", "as_of_valid", "cannot be combined with as_of"),
        ("as_of=2026-11-25T09:00:00+01:00", "as_of", "%2B"),
        ("as_of=noon", "as_of", "such as 2026-11-25T09:00:00Z"),
        ("as_of=5&as_of=6", "as_of", "is given 2 times"),
        ("as_of=5&cursor=WyJjb25maWRlbmNlIiwiZGVzYyIsMC41LCJBXHUwMDAwIl0", "cursor", "is not a valid cursor"),
        ("as_of=5&confidence_min=7", "confidence_min", "less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_refused_by_name(story: Story, query: str, field: str, says: str) -> None:
    answer = story.client.get(f"{SCAN}?{query}")
    assert answer.status_code == 400, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert says in answer.json()["detail"]


def test_pages_that_lie_too_deep_are_refused_only_where_something_is(story: Story) -> None:
    beyond = shown(story.client, "as_of=5&page=5000", story.known)
    assert (beyond["patterns"], beyond["pagination"]["total"]) == ([], 0)


def test_without_an_archive_there_is_no_past(redis_url: str) -> None:
    with api(redis_url) as client:
        answer = client.get(f"{SCAN}?as_of=5")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:tickview:problem:no-archive")
        assert client.get(SCAN).status_code == 200


def test_while_postgresql_is_away_the_present_is_answered_and_then_the_past_again(redis_url: str) -> None:
    with servers.world_readable_folder() as folder, ExitStack() as stack:
        with servers.postgres(data=folder) as dsn:
            client = stack.enter_context(past(redis_url, dsn))
            known = post(client, [detection("AAPL")])
            before = shown(client, f"as_of={time.time()!r}", known)
        answer = client.get(f"{SCAN}?as_of={time.time()!r}")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert str(folder) not in answer.text
        assert client.get(SCAN).status_code == 200
        with servers.postgres(data=folder):
            wait_until(lambda: client.get(f"{SCAN}?as_of=5").status_code == 200, "the past is answered again")
            assert shown(client, f"as_of={time.time()!r}", known)["pagination"] == before["pagination"]


def test_a_moment_that_has_just_gone_is_answered_whole(story: Story) -> None:
    """Without a position asked for: what the scan has shown, the past shows at once, however late the history is."""
    for number in range(20):
        known = post(story.client, [detection(f"N{number}")])
        now = timeless(shown(story.client, "confidence_min=0&per_page=100", known))
        assert timeless(shown(story.client, f"confidence_min=0&per_page=100&as_of={time.time()!r}", {})) == now
