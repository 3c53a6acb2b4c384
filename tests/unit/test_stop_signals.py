"""Stop signals that arrive while the main thread holds the lock of the event that they set."""

import subprocess
import sys

INTERRUPTED_WAIT = """
import signal, sys, threading
from infra.processes.stop_signals import stop_on_signals

stop = stop_on_signals()

def interrupt(frame, event, _):
    if event == "call" and frame.f_code is threading.Condition.wait.__code__:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

sys.setprofile(interrupt)
sys.exit(0 if stop.wait(10) else 1)
"""


def test_two_signals_during_a_wait_end_the_wait() -> None:
    """Setting the event in the handler would wait for the lock of the interrupted wait, without end."""
    completed = subprocess.run([sys.executable, "-c", INTERRUPTED_WAIT], timeout=30, capture_output=True)
    assert (completed.returncode, completed.stderr) == (0, b"")
