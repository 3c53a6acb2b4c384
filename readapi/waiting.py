"""A bound on how long something may wait, at no cost where it does not wait at all.

A timer of the event loop costs as much as a tenth of an answer from memory, which is never waited for.
"""

from asyncio import timeout
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class OverdueError(Exception):
    """It has taken too long."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, which may wait for so many seconds in all. Raises OverdueError."""
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    try:
        async with timeout(seconds) as clock:
            return await _going_on(work, waits_for)
    except TimeoutError:
        if clock.expired():
            raise OverdueError from None
        raise


@coroutine
def _going_on(work: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """The rest of a coroutine that has begun to wait: as ``yield from`` (PEP 380), from its second step on."""
    while True:
        try:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 whatever the task is told, the work is
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
        except StopIteration as done:
            result: T = done.value
            return result
