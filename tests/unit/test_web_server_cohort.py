"""The cohort of immediate answers: requests take each step together, and none stops the others."""

import asyncio

from infra.web_server.cohort import Cohort
from readapi.http.cohort_scheduling import yield_to_cohort
from readapi.http.immediate import ImmediateAnswer

ANSWER = ImmediateAnswer(200, b"", b"")


def test_requests_take_each_step_together_and_an_error_stops_no_other_request() -> None:
    steps: list[str] = []
    ended: dict[str, ImmediateAnswer | None] = {}

    async def work(name: str, error: Exception | None = None) -> ImmediateAnswer:
        for step in "12":
            steps.append(name + step)
            await yield_to_cohort()
        if error:
            raise error
        return ANSWER

    async def run() -> None:
        cohort, loop = Cohort(), asyncio.get_running_loop()
        for name, error in (("a", None), ("b", ValueError("a fault of the program")), ("c", None)):
            cohort.join(loop, work(name, error), lambda answer, name=name: ended.update({name: answer}))
        await asyncio.sleep(0)

    asyncio.run(run())
    assert steps == ["a1", "b1", "c1", "a2", "b2", "c2"]
    assert ended == {"a": ANSWER, "b": None, "c": ANSWER}, "the application answers the failed request"
