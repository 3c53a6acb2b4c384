"""Threads that run as long as their process: when their end is a defect."""

from threading import Event, Thread

import pytest

from infra.processes.threads import run_threads


def test_a_thread_that_ends_because_of_a_stop_is_no_defect() -> None:
    """The stop is requested, and the thread ends, between two checks."""
    stop = Event()
    thread = Thread(target=stop.wait)

    def stop_and_wait() -> None:
        stop.set()
        thread.join()

    run_threads([thread], stop, stop_and_wait)


def test_a_thread_that_ends_without_a_stop_is_a_defect() -> None:
    with pytest.raises(RuntimeError, match="The thread brief ended before a stop was requested"):
        run_threads([Thread(target=int, name="brief")], Event())
