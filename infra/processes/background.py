"""Child processes with low priority, for long work that must not hold up the work of this process."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

NICENESS = 10
"""Niceness of a child process. The work of this process takes precedence."""


def start_in_background(work: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Start a child process. It ends with this process at the latest, if this process ends in order.

    Args:
        work: A function of a module.
        arguments: The arguments of the function, which can be pickled.
    """
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(work, *arguments), daemon=True)
    process.start()
    return process


def _run(work: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent process ends this process.
    os.nice(NICENESS)
    work(*arguments)
