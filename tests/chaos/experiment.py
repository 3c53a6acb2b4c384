"""One run of chaos: the system runs, producers send, parts fail, the service settles, and the oracle judges."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import httpx

from tests.chaos import oracle
from tests.chaos.list_owners import ListOwner
from tests.chaos.losses import Losses
from tests.chaos.producers import producers
from tests.chaos.progress import stalls_of, take_progress
from tests.chaos.redis_servers import Fault
from tests.chaos.sampling import sampling
from tests.chaos.sent import Sent
from tests.chaos.single_server import single_server
from tests.chaos.system import StartServers, System, running_system, suspended
from tests.plain_http import PLAIN_HTTP
from tests.threads import running_threads

STALL_SECONDS = 13.0
"""Seconds for which a role is suspended once in every run."""

STALLED_ROLES = ("record", "project", "archive")


def run_experiment(
    seconds: float,
    seed: int,
    start_servers: StartServers = single_server,
    bug: str | None = None,
    fault: str | None = None,
) -> None:
    """Run chaos for some seconds.

    In the last third of the time, servers lose data, and promises with exceptions for lost data are judged apart.

    Args:
        seconds: Duration of the faults, more than twice ``STALL_SECONDS``.
        seed: The seed of all choices. Processes run in parallel, so that a repetition is only similar.
        start_servers: Runs the Redis servers.
        bug: A bug to plant, see ``planted/sitecustomize.py``. It must be found before data is lost.
        fault: The name of the only fault, see ``System``. None: all faults.

    Raises:
        AssertionError: The oracle found a fault. The message has the seed, the faults and the logs.
    """
    chance, sent = random.Random(seed), Sent()
    before_losses = seconds if bug else seconds * 2 / 3
    with (
        running_system(bug, start_servers, chance) as system,
        httpx.Client(base_url=system.api_url, timeout=20, verify=PLAIN_HTTP) as client,
        system.redis.client() as redis,
        producers(system.api_url, system.redis, seed, sent) as senders,
    ):
        owners = [ListOwner(name, seed, client, sent) for name in ("alice", "bob")]
        judge = partial(judge_promises, system, client, redis, sent, owners)
        loops = [*(sender.run for sender in senders), *(owner.run for owner in owners)]
        losses = Losses(system, sent)
        faults: list[str] = []
        try:
            with (
                httpx.Client(base_url=system.api_url, timeout=5, verify=PLAIN_HTTP) as sampled_api,
                system.redis.client(socket_timeout=2) as sampled_redis,
                sampling(partial(oracle.take_sample, sampled_api)) as samples,
                sampling(partial(take_progress, sampled_redis, system.postgres_dsn)) as progress,
                running_threads(loops),
            ):
                stalled = chance.choice(STALLED_ROLES)
                stall(system, stalled)
                choose = (lambda _: getattr(system, fault)) if fault else system.choose_fault
                cause_faults(choose, chance, before_losses - STALL_SECONDS, faults)
            logs = judge()
            oracle.check_samples(samples, logs)
            stalls = stalls_of(progress)
            assert any(each.work.startswith(stalled) for each in stalls), f"the stall of {stalled} was not seen"
            oracle.check_health(samples, stalls)
            if bug is None:
                with running_threads(loops):
                    cause_faults(losses.choose, chance, seconds - before_losses, faults)
                judge()
            print(f"{system.redis.settings} {faults}")
        except AssertionError as error:
            raise AssertionError(f"CHAOS_SEED={seed}: {error}\nfaults: {faults}\n{system.logs()}") from error


def judge_promises(
    system: System, client: httpx.Client, redis: Any, sent: Sent, owners: Sequence[ListOwner]
) -> oracle.Logs:
    """Wait until the service has settled, and judge what it has recorded and shows. Return the events of all logs."""
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
    oracle.check_lists(owners, sent)
    return logs


def cause_faults(
    choose: Callable[[random.Random], Fault], chance: random.Random, seconds: float, faults: list[str]
) -> None:
    """Cause one fault after the other. Add their descriptions, with epoch seconds, to ``faults``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.time()
        description = choose(chance)(chance)
        faults.append(f"{began:.1f}-{time.time():.1f} {description}")
        time.sleep(chance.uniform(0.2, 2))


def stall(system: System, role: str) -> None:
    """Suspend a whole role for longer than ten seconds."""
    with suspended([*system.processes_of(role), *system.second_process_of(role)]):
        time.sleep(STALL_SECONDS)
