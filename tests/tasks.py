"""Waits for and ends what runs in an event loop."""

import asyncio
from collections.abc import Callable
from typing import Any


async def end(task: asyncio.Task[None]) -> None:
    """Cancel it until it ends: before Python 3.12 ``asyncio.wait_for``, which redis-py uses, may swallow that."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.result()


async def until(condition: Callable[[], Any]) -> None:
    """Return once it is true."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)
