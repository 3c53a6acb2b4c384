"""A bound on waiting: work that waits and work that does not end as they would without it, or are overdue."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import falcon.testing
import pytest
from falcon.asgi import App, Request, Response

from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.deadlines import DeadlineExceededError, with_deadline
from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.problems import handle_errors

LONG = 60.0
SHORT = 0.01


async def at_once() -> str:
    return "done"


async def after_waits() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
    return "done"


async def lets_others_have_their_turn() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "done"


async def fails_after_a_turn_and_a_wait() -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    raise ValueError("wrong")


async def for_ever() -> str:
    await asyncio.Event().wait()
    return "never"


async def fails_at_once() -> str:
    raise ValueError("wrong")


async def fails_after_a_wait() -> str:
    await asyncio.sleep(0)
    raise ValueError("wrong")


async def times_out_by_itself() -> str:
    async with asyncio.timeout(SHORT):
        return await for_ever()


async def goes_on_after_an_error() -> str:
    """What it waits for fails, which it catches, and waits again."""
    failing = asyncio.get_running_loop().create_future()
    failing.set_exception(KeyError("expected"))
    try:
        await asyncio.sleep(0)
        await failing
    except KeyError:
        await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize("work", [at_once, lets_others_have_their_turn, after_waits, goes_on_after_an_error])
def test_it_returns_what_the_work_returns(work: Callable[[], Coroutine[Any, Any, str]]) -> None:
    assert asyncio.run(with_deadline(LONG, work())) == "done"


@pytest.mark.parametrize("work", [fails_at_once, fails_after_a_wait, fails_after_a_turn_and_a_wait])
def test_the_works_errors_are_its_own(work: Callable[[], Coroutine[Any, Any, str]]) -> None:
    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(with_deadline(LONG, work()))


def test_what_waits_too_long_is_overdue() -> None:
    with pytest.raises(DeadlineExceededError):
        asyncio.run(with_deadline(SHORT, for_ever()))


def test_a_time_out_within_is_another() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(with_deadline(LONG, times_out_by_itself()))


@pytest.mark.parametrize("work", [at_once, lets_others_have_their_turn])
def test_without_a_wait_there_is_no_timer(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], Coroutine[Any, Any, str]]
) -> None:
    monkeypatch.setattr("readapi.http.deadlines.timeout", None)
    assert asyncio.run(with_deadline(LONG, work())) == "done"


def test_others_do_have_their_turn() -> None:
    async def test() -> list[str]:
        order: list[str] = []

        async def work(name: str) -> None:
            for step in range(3):
                order.append(f"{name}{step}")
                await yield_to_cohort()

        await asyncio.gather(with_deadline(LONG, work("a")), with_deadline(LONG, work("b")))
        return order

    assert asyncio.run(test()) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_the_work_is_cancelled_where_it_lets_others_have_their_turn() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            await yield_to_cohort()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def test() -> None:
        task = asyncio.create_task(with_deadline(LONG, work()))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert seen == ["cancelled"]


def test_the_work_is_cancelled_with_its_task() -> None:
    """Also where it waits again before it ends, as what cleans up does."""
    seen: list[str] = []

    async def cleans_up() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            seen.append("cleaned up")
            raise

    async def test() -> None:
        task = asyncio.create_task(with_deadline(LONG, cleans_up()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert seen == ["cleaned up"]


class Waiting(Resource):
    """Answers when nobody asks any more."""

    @operation("Wait", scope=None, responses={200: None})
    async def on_get(self, _req: Request, _resp: Response, _query: Parameters) -> None:
        """Too long."""
        await for_ever()


def test_a_request_that_is_overdue_is_told_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readapi.http.operation.RESPONSE_SECONDS", SHORT)
    app = App()
    handle_errors(app, ())
    app.add_route("/", Waiting())
    answer = falcon.testing.TestClient(app).simulate_get("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "did not respond within 0.01 s" in answer.json["detail"]
