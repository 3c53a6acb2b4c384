"""A role ends when the supervisor that started it is gone, however it went.

The supervisor gives its children, as standard input, the read end of a pipe to which nobody writes and whose write end
only it holds. The kernel closes that end with the supervisor, even a killed one, and the read then returns. Unlike a
parent-death signal this works on every Unix, and whichever thread of the supervisor started the child.
"""

import os
import signal
import time
from threading import Thread

SUPERVISED = "TICKVIEW_SUPERVISED"
"""The environment variable that tells a process that its standard input is its supervisor's lifeline."""

_STANDARD_INPUT = 0

GRACE_SECONDS = 5.0
"""How long a role may take to stop by itself, before its process group is killed."""


def follow_supervisor() -> None:
    """Stop this process as by SIGTERM once its supervisor is gone; of no effect in a process that has none."""
    if SUPERVISED in os.environ:
        Thread(target=_stop_with_supervisor, name="lifeline", daemon=True).start()


def _stop_with_supervisor() -> None:
    os.read(_STANDARD_INPUT, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os.killpg(os.getpgrp(), signal.SIGKILL)
