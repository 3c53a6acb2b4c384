"""The signals that stop a process in order."""

import signal
from queue import SimpleQueue
from threading import Event, Thread


def stop_on_signals() -> Event:
    """Return an event that SIGTERM, SIGINT and SIGHUP (a closed terminal) set.

    A signal can interrupt the main thread while it holds the lock of the event. The handler therefore does not set the
    event: it wakes a thread that does.
    """
    stop = Event()
    received: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: received.put(number))

    def set_when_received() -> None:
        received.get()
        stop.set()

    Thread(target=set_when_received, name="signals", daemon=True).start()
    return stop
