"""Lanes: bounded concurrency for each receiver, so that a slow receiver delays only its own deliveries."""

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable

PER_LANE = 4
"""Highest number of jobs of one lane at a time."""

TOTAL = 256
"""Highest number of jobs of all lanes at a time."""

Job = Callable[[], Awaitable[None]]


class Lanes:
    """Runs jobs as tasks in one event loop: those of one lane in the order of their submission, a few at a time.

    Args:
        per_lane: Highest number of jobs of one lane at a time.
        total: Highest number of jobs of all lanes at a time.
    """

    def __init__(self, per_lane: int = PER_LANE, total: int = TOTAL) -> None:
        self._per_lane = per_lane
        self._waiting: defaultdict[Hashable, deque[Job]] = defaultdict(deque)
        self._running: Counter[Hashable] = Counter()
        self._slots = asyncio.Semaphore(total)
        self._tasks: set[asyncio.Task[None]] = set()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the first error that a job raises."""

    def submit(self, lane: Hashable, job: Job) -> None:
        """Run a job as soon as its lane has a place. An error of a job is a defect: see ``failure``."""
        self._waiting[lane].append(job)
        self._fill(lane)

    def _fill(self, lane: Hashable) -> None:
        waiting = self._waiting[lane]
        while waiting and self._running[lane] < self._per_lane:
            self._running[lane] += 1
            task = asyncio.create_task(self._run(lane, waiting.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._forget)
        if not waiting and not self._running[lane]:
            del self._waiting[lane], self._running[lane]

    async def _run(self, lane: Hashable, job: Job) -> None:
        try:
            async with self._slots:
                await job()
        finally:
            self._running[lane] -= 1
            self._fill(lane)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self.failure.done():
            self.failure.set_exception(error)

    async def aclose(self) -> None:
        """Cancel all jobs."""
        self._waiting.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
