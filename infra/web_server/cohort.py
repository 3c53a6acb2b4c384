"""The cohort: requests with immediate answers that arrive in one turn of the event loop take each step together.

See ``readapi.http.cohort_scheduling``. No task is needed for this: the coroutines run in a loop until all have ended.
"""

import asyncio
from collections.abc import Callable

import structlog

from readapi.http.immediate import ImmediateAnswer, ImmediateWork

logger = structlog.get_logger()

EndWork = Callable[[ImmediateAnswer | None], None]
"""Receives the result of the work on an answer."""


class Cohort:
    """The requests that have arrived since the last turn of the event loop."""

    def __init__(self) -> None:
        self._joined: list[tuple[ImmediateWork, EndWork]] = []

    def join(self, loop: asyncio.AbstractEventLoop, work: ImmediateWork, end: EndWork) -> None:
        """Let a request take part in the next turn of the event loop."""
        if not self._joined:
            loop.call_soon(self._run)
        self._joined.append((work, end))

    def _run(self) -> None:
        """Run all requests of the cohort step by step, until all have ended."""
        running, self._joined = self._joined, []
        while running:
            waiting = []
            for request in running:
                work, end = request
                try:
                    work.send(None)
                except StopIteration as ended:
                    end(ended.value)
                except Exception as error:
                    logger.error("immediate answer failed, the application answers", exc_info=error)
                    end(None)
                else:
                    waiting.append(request)
            running = waiting


cohort = Cohort()
"""The cohort of this process. All connections of a process have one event loop."""
