"""Ends tasks that talk to Redis."""

import asyncio


async def end(task: asyncio.Task[None]) -> None:
    """Cancel it until it ends: before Python 3.12 ``asyncio.wait_for``, which redis-py uses, may swallow that."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.result()
