"""Lanes: the bounds of each receiver and of all together, the order, and defects of jobs."""

import asyncio

import pytest

from infra.alerting.lanes import Job, Lanes
from tests.tasks import wait_for_condition


def test_a_lane_runs_a_few_jobs_at_a_time_in_order_and_other_lanes_do_not_wait() -> None:
    async def run() -> None:
        lanes, gate = Lanes(per_lane=2), asyncio.Event()
        begun: list[str] = []

        def job(name: str) -> Job:
            async def wait() -> None:
                begun.append(name)
                await gate.wait()

            return wait

        for number in range(5):
            lanes.submit("slow", job(f"slow {number}"))
        lanes.submit("other", job("other"))
        await wait_for_condition(lambda: len(begun) == 3)
        assert begun == ["slow 0", "slow 1", "other"]
        gate.set()
        await wait_for_condition(lambda: len(begun) == 6)
        assert begun[3:] == ["slow 2", "slow 3", "slow 4"]

    asyncio.run(run())


def test_all_lanes_together_have_a_bound() -> None:
    async def run() -> None:
        lanes = Lanes(per_lane=2, total=3)
        running = highest = done = 0

        async def job() -> None:
            nonlocal running, highest, done
            running += 1
            highest = max(highest, running)
            await asyncio.sleep(0)
            running -= 1
            done += 1

        for number in range(20):
            lanes.submit(number % 10, job)
        await wait_for_condition(lambda: done == 20)
        assert highest == 3

    asyncio.run(run())


def test_a_defect_of_a_job_is_reported_and_a_cancelled_job_is_none() -> None:
    async def run() -> None:
        lanes = Lanes()

        async def defect() -> None:
            raise ZeroDivisionError

        lanes.submit("lane", lambda: asyncio.sleep(60))
        await asyncio.sleep(0)
        await lanes.aclose()
        assert not lanes.failure.done()
        lanes.submit("lane", defect)
        with pytest.raises(ZeroDivisionError):
            await lanes.failure

    asyncio.run(run())
