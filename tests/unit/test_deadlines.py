"""Deadlines of requests: work ends as without a deadline, or fails when the deadline passes."""

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


async def return_at_once() -> str:
    return "done"


async def wait_and_return() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
    return "done"


async def yield_and_return() -> str:
    for _ in range(3):
        await asyncio.sleep(0)
    return "done"


async def fail_after_a_yield_and_a_wait() -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    raise ValueError("wrong")


async def wait_for_ever() -> str:
    await asyncio.Event().wait()
    return "never"


async def fail_at_once() -> str:
    raise ValueError("wrong")


async def fail_after_a_yield() -> str:
    await asyncio.sleep(0)
    raise ValueError("wrong")


async def time_out() -> str:
    async with asyncio.timeout(SHORT):
        return await wait_for_ever()


async def catch_an_error_and_wait() -> str:
    """Await a failing future, catch its error, and wait again."""
    failing = asyncio.get_running_loop().create_future()
    failing.set_exception(KeyError("expected"))
    try:
        await asyncio.sleep(0)
        await failing
    except KeyError:
        await asyncio.sleep(0.001)
    return "done"


@pytest.mark.parametrize("work", [return_at_once, yield_and_return, wait_and_return, catch_an_error_and_wait])
def test_the_result_of_the_work_is_returned(work: Callable[[], Coroutine[Any, Any, str]]) -> None:
    assert asyncio.run(with_deadline(LONG, work())) == "done"


@pytest.mark.parametrize("work", [fail_at_once, fail_after_a_yield, fail_after_a_yield_and_a_wait])
def test_an_error_of_the_work_is_raised(work: Callable[[], Coroutine[Any, Any, str]]) -> None:
    with pytest.raises(ValueError, match="wrong"):
        asyncio.run(with_deadline(LONG, work()))


def test_work_that_exceeds_the_deadline_is_cancelled_with_an_error() -> None:
    with pytest.raises(DeadlineExceededError):
        asyncio.run(with_deadline(SHORT, wait_for_ever()))


def test_a_timeout_inside_the_work_stays_a_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(with_deadline(LONG, time_out()))


@pytest.mark.parametrize("work", [return_at_once, yield_and_return])
def test_work_that_never_waits_starts_no_timer(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[], Coroutine[Any, Any, str]]
) -> None:
    monkeypatch.setattr("readapi.http.deadlines.timeout", None)
    assert asyncio.run(with_deadline(LONG, work())) == "done"


def test_two_works_take_turns_at_each_yield() -> None:
    async def test() -> list[str]:
        order: list[str] = []

        async def work(name: str) -> None:
            for step in range(3):
                order.append(f"{name}{step}")
                await yield_to_cohort()

        await asyncio.gather(with_deadline(LONG, work("a")), with_deadline(LONG, work("b")))
        return order

    assert asyncio.run(test()) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_work_is_cancelled_at_a_yield() -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            await yield_to_cohort()
        except asyncio.CancelledError:
            steps.append("cancelled")
            raise

    async def test() -> None:
        task = asyncio.create_task(with_deadline(LONG, work()))
        asyncio.get_running_loop().call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert steps == ["cancelled"]


def test_cancelling_the_task_cancels_the_work_and_waits_for_its_cleanup() -> None:
    steps: list[str] = []

    async def clean_up_when_cancelled() -> None:
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            steps.append("cleaned up")
            raise

    async def test() -> None:
        task = asyncio.create_task(with_deadline(LONG, clean_up_when_cancelled()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert steps == ["cleaned up"]


class NeverResponding(Resource):
    """A resource that never responds."""

    @operation("Wait", scope=None, responses={200: None})
    async def on_get(self, _req: Request, _resp: Response, _query: Parameters) -> None:
        """Never respond."""
        await wait_for_ever()


def test_a_request_past_its_deadline_gets_status_503_with_retry_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("readapi.http.operation.RESPONSE_SECONDS", SHORT)
    app = App()
    handle_errors(app, (), lambda _: None)
    app.add_route("/", NeverResponding())
    response = falcon.testing.TestClient(app).simulate_get("/")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert "did not respond within 0.01 s" in response.json["detail"]
