"""The lifeline: a pipe by which a role notices that its supervisor has ended, even if the supervisor was killed.

The standard input of each child process is the read end of the pipe. Only the supervisor holds the write end, and no
process writes to it. When the supervisor ends, the kernel closes the write end, and the child's read returns. Unlike a
parent-death signal (``PR_SET_PDEATHSIG``), the lifeline works on every Unix and for every thread of the supervisor.
"""

import os
import signal
import time
from threading import Thread

SUPERVISED = "TICKVIEW_SUPERVISED"
"""Environment variable of a supervised process. It states that the standard input of the process is a lifeline."""

_STANDARD_INPUT = 0

GRACE_SECONDS = 5.0
"""Seconds that a role has to stop after SIGTERM. Then its process group is killed."""


def stop_with_supervisor() -> None:
    """Stop this process, as by SIGTERM, when its supervisor ends. Do nothing in a process without a supervisor."""
    if SUPERVISED in os.environ:
        Thread(target=_wait_and_stop, name="lifeline", daemon=True).start()


def _wait_and_stop() -> None:
    os.read(_STANDARD_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)
