"""A bound on how long something may wait, at no cost where it does not wait at all.

A timer of the event loop costs as much as a tenth of an answer from memory, which is never waited for.
"""

from asyncio import timeout
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from domain.errors import TickViewError

T = TypeVar("T")


class OverdueError(TickViewError):
    """It has taken too long."""


class _Ended(NamedTuple, Generic[T]):
    """The work has."""

    result: T


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """What ``work`` returns, which may wait for so many seconds in all. Raises OverdueError.

    To let others have their turn is not to wait.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    if waits_for is None:
        waits_for = await _going_on(work, waits_for, to_the_end=False)
        if isinstance(waits_for, _Ended):
            ended: _Ended[T] = waits_for
            return ended.result
    try:
        async with timeout(seconds) as clock:
            ended = await _going_on(work, waits_for, to_the_end=True)
            return ended.result
    except TimeoutError:
        if clock.expired():
            raise OverdueError from None
        raise


@coroutine
def _going_on(work: Coroutine[Any, Any, T], waits_for: Any, *, to_the_end: bool) -> Generator[Any, Any, Any]:
    """The rest of a coroutine that has begun to wait: as ``yield from`` (PEP 380), from its second step on.

    It ends as ``_Ended``; if not ``to_the_end``, it is left at what it waits for. A bare ``yield`` waits for nothing.
    """
    while to_the_end or waits_for is None:
        try:
            try:
                sent = yield waits_for
            except BaseException as error:  # noqa: BLE001 whatever the task is told, the work is
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
        except StopIteration as done:
            return _Ended(done.value)
    return waits_for
