"""Waits for conditions and cancels tasks in an event loop."""

import asyncio
from collections.abc import Callable
from typing import Any


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends. Before Python 3.12, ``asyncio.wait_for`` in redis-py can swallow a cancellation."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.result()


async def wait_for_condition(condition: Callable[[], Any]) -> None:
    """Return once the condition is true. Fail after 60 seconds."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)
