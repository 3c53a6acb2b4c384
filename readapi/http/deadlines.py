"""Deadlines for coroutines, without cost for a coroutine that never waits.

A timer of the event loop costs as much as a tenth of a response from memory. Such a response never waits, so it
needs no timer.
"""

from asyncio import timeout
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Generic, NamedTuple, TypeVar

from domain.errors import TickViewError

T = TypeVar("T")


class DeadlineExceededError(TickViewError):
    """A coroutine did not end before its deadline."""


class _Completed(NamedTuple, Generic[T]):
    """The result of a coroutine that has ended."""

    result: T


async def with_deadline(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Await ``work`` and return its result. The timer starts when ``work`` first waits for something.

    A bare ``yield`` to the event loop does not count as waiting.

    Args:
        seconds: Highest total time that ``work`` may wait.
        work: The coroutine.

    Raises:
        DeadlineExceededError: ``work`` did not end in time and was cancelled.
    """
    try:
        awaited = work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    if awaited is None:
        awaited = await _resume(work, awaited, until_end=False)
        if isinstance(awaited, _Completed):
            completed: _Completed[T] = awaited
            return completed.result
    try:
        async with timeout(seconds) as clock:
            completed = await _resume(work, awaited, until_end=True)
            return completed.result
    except TimeoutError:
        if clock.expired():
            raise DeadlineExceededError from None
        raise


@coroutine
def _resume(work: Coroutine[Any, Any, T], awaited: Any, *, until_end: bool) -> Generator[Any, Any, Any]:
    """Drive a suspended coroutine as ``yield from`` does (PEP 380), beginning with its second step.

    Returns:
        ``_Completed`` when the coroutine ends. With ``until_end=False``, the awaited object as soon as the coroutine
        waits for something other than a bare ``yield``.
    """
    while until_end or awaited is None:
        try:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 every exception sent to the task is for the coroutine
                awaited = work.throw(error)
            else:
                awaited = work.send(sent)
        except StopIteration as done:
            return _Completed(done.value)
    return awaited
