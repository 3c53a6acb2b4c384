"""One run of chaos: the system runs, producers send, parts fail, the service settles, and the oracle judges."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread

import httpx
from redis import Redis

from tests.chaos import oracle
from tests.chaos.producers import running_producers
from tests.chaos.system import System, running_system, suspended

Fault = Callable[[random.Random], str]
"""Causes a fault, and returns its description."""

STALL_SECONDS = 13.0
"""Seconds for which a role is suspended once in every run."""

STALLED_ROLES = ("record", "project", "archive")


def run_experiment(seconds: float, seed: int, bug: str | None = None, fault: str | None = None) -> None:
    """Run chaos for some seconds.

    Args:
        seconds: Duration of the faults, more than ``STALL_SECONDS``.
        seed: The seed of all choices. Processes run in parallel, so that a repetition is only similar.
        bug: A bug to plant, see ``planted/sitecustomize.py``.
        fault: The name of the only fault, see ``System``. None: all faults.

    Raises:
        AssertionError: The oracle found a fault. The message has the seed, the faults and the logs.
    """
    chance = random.Random(seed)
    with (
        running_system(bug) as system,
        httpx.Client(base_url=system.api_url, timeout=20) as client,
        Redis.from_url(system.redis_url) as redis,
    ):
        with sampling(system) as samples, running_producers(system.api_url, system.redis_url, seed) as sent:
            stalls = [stall(system, chance.choice(STALLED_ROLES))]
            choices = [getattr(system, fault)] if fault else system.faults
            faults = cause_faults(choices, chance, seconds - STALL_SECONDS)
        try:
            oracle.wait_until_settled(client, redis)
            logs = oracle.read_logs(redis)
            oracle.check_events(logs, sent)
            oracle.check_gaps(logs, sent, redis)
            oracle.check_archive(logs, system.postgres_dsn)
            oracle.check_dead_letters(client, sent)
            oracle.wait_until_shown(client, logs)
            oracle.check_read_model(client, logs)
            oracle.check_activity(client, logs)
            oracle.check_stored_indexes(redis, logs)
            oracle.check_samples(samples, logs)
            oracle.check_health(samples, stalls)
        except AssertionError as error:
            raise AssertionError(f"CHAOS_SEED={seed}: {error}\nfaults: {faults}\n{system.logs()}") from error


def cause_faults(choices: Sequence[Fault], chance: random.Random, seconds: float) -> list[str]:
    """Cause one fault after the other. Return their descriptions."""
    end = time.monotonic() + seconds
    faults = []
    while time.monotonic() < end:
        faults.append(chance.choice(choices)(chance))
        time.sleep(chance.uniform(0.2, 2))
    return faults


def stall(system: System, role: str) -> tuple[float, float]:
    """Suspend a whole role for longer than ten seconds. Return the beginning and the end of the stall."""
    began = time.monotonic()
    with suspended([*system.processes_of(role), *system.second_process_of(role)]):
        time.sleep(STALL_SECONDS)
        return began, time.monotonic()


@contextmanager
def sampling(system: System) -> Iterator[list[oracle.Sample]]:
    """Take samples of health and scans until the context ends."""
    samples: list[oracle.Sample] = []
    ends = Event()

    def sample() -> None:
        with httpx.Client(base_url=system.api_url, timeout=5) as client:
            while not ends.wait(0.3):
                samples.append(oracle.take_sample(client))

    thread = Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        ends.set()
        thread.join()
