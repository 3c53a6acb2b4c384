"""The discrete-event model: producers, recorders, the log's partitions, workers with leases, and servers.

Every part follows the code. A recorder takes what waits in the ingest stream, up to a batch, appends it to up to eight
logs at the same time, and reads the next full batch meanwhile. A worker process folds one batch at a time (Python runs
one thread at a time), and has a thread for each segment that it leases. A server executes one command at a time.
Workers renew and share leases three times per lease, and a commit is refused if another worker has leased the segment
meanwhile.
"""

from collections import defaultdict, deque
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import simpy

from domain.streams import market_logs
from infra.recording.event_appender import APPENDS_AT_ONCE
from tests.simulation.scenario import Arrival, Failover, Scenario, Stall, arrivals

Steps = Generator[simpy.Event, Any, None]
"""A process of the simulation."""

FAILOVER, COMMAND = 0, 1
"""Priorities at a server: while it is away, no command is executed."""


class Visible(NamedTuple):
    """An event that a reader can see in the read model."""

    arrival: Arrival
    at: float

    @property
    def lag(self) -> float:
        """Seconds from the arrival until the event is visible."""
        return self.at - self.arrival.at


class _Segment:
    """A partition's log, and the segment that folds it."""

    def __init__(self, env: simpy.Environment, log: str, server: simpy.PriorityResource) -> None:
        self.log = log
        self.server = server
        """The primary server that has the log and the read model."""
        self.events: deque[Arrival] = deque()
        """The events behind the checkpoint."""
        self.appended = env.event()
        """Occurs with the next append."""
        self.owner: _Worker | None = None
        self.epoch = 0
        self.leased_until = 0.0


class _Worker:
    """A worker process."""

    def __init__(self, env: simpy.Environment, place: int) -> None:
        self.place = place
        self.processor = simpy.Resource(env, capacity=1)
        self.stalled_until = 0.0
        self.alive_until = 0.0
        self.epochs: dict[str, int] = {}
        """Log -> epoch of the lease that this worker believes to hold."""


class Simulation:
    """One run of a scenario.

    Args:
        scenario: The scenario.
        owners: Log -> place of the worker that leases its segment at the start. Others are leased in the first round.
    """

    def __init__(self, scenario: Scenario, owners: Mapping[str, int] | None = None) -> None:
        self._scenario = scenario
        self._env = simpy.Environment()
        self._servers = [simpy.PriorityResource(self._env, capacity=1) for _ in range(scenario.primaries)]
        self._ingest: deque[Arrival] = deque()
        self._arrived = self._env.event()
        self._segments = {
            log: _Segment(self._env, log, self._servers[number % scenario.primaries])
            for number, log in enumerate(market_logs(scenario.partitions))
        }
        self._workers = [_Worker(self._env, place) for place in range(scenario.workers)]
        self._owners = owners or {}
        self._events = list(arrivals(scenario))
        self._done = self._env.event()
        self.visible: list[Visible] = []
        """The events in the order in which they became visible."""
        self.refused = 0
        """Number of commits that the fence refused."""

    def run(self) -> list[Visible]:
        """Run until every event is visible, and return the events in the order in which they became visible."""
        for log, place in self._owners.items():
            self._lease(self._segments[log], self._workers[place])
        processes = [self._produce(), *map(self._renew, self._workers)]
        processes += [self._record() for _ in range(self._scenario.recorders)]
        processes += [self._stall(stall) for stall in self._scenario.stalls]
        processes += [self._fail_over(failover) for failover in self._scenario.failovers]
        for process in processes:
            self._env.process(process)
        if self._events:
            self._env.run(self._done)
        return self.visible

    def _produce(self) -> Steps:
        for event in self._events:
            yield self._env.timeout(event.at - self._env.now)
            self._ingest.append(event)
            self._arrived = self._occur(self._arrived)

    def _record(self) -> Steps:
        """Record without end. While the stream has a full batch, read the next one during the appends."""
        costs, env = self._scenario.costs, self._env
        appends: simpy.Event = env.timeout(0)
        while True:
            if not self._ingest:
                yield appends
            while not self._ingest:
                yield self._arrived
            batch = [self._ingest.popleft() for _ in range(min(len(self._ingest), self._scenario.record_batch))]
            yield env.timeout(costs.record.of(len(batch)))
            yield appends
            at_once = simpy.Resource(env, APPENDS_AT_ONCE)
            events_by_log: dict[str, list[Arrival]] = defaultdict(list)
            for event in batch:
                events_by_log[event.log].append(event)
            appends = env.all_of(
                [env.process(self._append(at_once, log, events)) for log, events in events_by_log.items()]
            )
            if len(batch) < self._scenario.record_batch:
                yield appends

    def _append(self, at_once: simpy.Resource, log: str, events: list[Arrival]) -> Steps:
        segment = self._segments[log]
        with at_once.request() as turn:
            yield turn
            yield from self._execute(segment.server, self._scenario.costs.append.of(len(events)))
        segment.events.extend(events)
        segment.appended = self._occur(segment.appended)

    def _renew(self, worker: _Worker) -> Steps:
        """Run the rounds of a worker: renew its leases, release what is beyond its share, lease what is free."""
        seconds = self._scenario.lease_seconds
        while True:
            yield from self._wait_for_worker(worker)
            yield from self._execute(self._servers[0], 0.0)
            now = self._env.now
            worker.alive_until = now + seconds
            for log, epoch in list(worker.epochs.items()):
                segment = self._segments[log]
                if segment.epoch == epoch:
                    segment.leased_until = now + seconds
                else:
                    del worker.epochs[log]
            self._share(worker)
            yield self._env.timeout(seconds / 3)

    def _share(self, worker: _Worker) -> None:
        alive = [each for each in self._workers if each.alive_until > self._env.now]
        logs = list(self._segments)
        size = -(-len(logs) // len(alive))
        for log in list(worker.epochs)[size:]:
            del worker.epochs[log]
            self._segments[log].leased_until = 0.0
            self._segments[log].owner = None
        first = alive.index(worker) * size % len(logs)
        for log in (*logs[first:], *logs[:first]):
            segment = self._segments[log]
            if len(worker.epochs) < size and log not in worker.epochs and segment.leased_until <= self._env.now:
                self._lease(segment, worker)

    def _lease(self, segment: _Segment, worker: _Worker) -> None:
        segment.owner, segment.epoch = worker, segment.epoch + 1
        segment.leased_until = self._env.now + self._scenario.lease_seconds
        worker.epochs[segment.log] = segment.epoch
        self._env.process(self._fold(segment, worker, segment.epoch))

    def _fold(self, segment: _Segment, worker: _Worker, epoch: int) -> Steps:
        """Fold a segment until its lease is lost."""
        costs = self._scenario.costs
        while worker.epochs.get(segment.log) == epoch:
            if not segment.events:
                yield segment.appended
                continue
            batch = min(len(segment.events), self._scenario.fold_batch)
            with worker.processor.request() as turn:
                yield turn
                yield from self._wait_for_worker(worker)
                yield self._env.timeout(costs.fold.of(batch))
                yield from self._wait_for_worker(worker)
            yield from self._execute(segment.server, costs.commit.of(batch))
            if segment.epoch != epoch or segment.owner is not worker:
                self.refused += 1
                worker.epochs.pop(segment.log, None)
                return
            self._publish(segment, batch)

    def _publish(self, segment: _Segment, batch: int) -> None:
        for _ in range(batch):
            self.visible.append(Visible(segment.events.popleft(), self._env.now))
        if len(self.visible) == len(self._events):
            self._done.succeed()

    def _execute(self, server: simpy.PriorityResource, seconds: float) -> Steps:
        """Execute a command on a server."""
        with server.request(COMMAND) as turn:
            yield turn
            yield self._env.timeout(seconds)

    def _fail_over(self, failover: Failover) -> Steps:
        yield self._env.timeout(failover.at)
        with self._servers[failover.primary].request(FAILOVER) as turn:
            yield turn
            yield self._env.timeout(failover.seconds)

    def _stall(self, stall: Stall) -> Steps:
        yield self._env.timeout(stall.at)
        self._workers[stall.worker].stalled_until = stall.at + stall.seconds

    def _wait_for_worker(self, worker: _Worker) -> Steps:
        if worker.stalled_until > self._env.now:
            yield self._env.timeout(worker.stalled_until - self._env.now)

    def _occur(self, event: simpy.Event) -> simpy.Event:
        """Let an event occur, and return the next one."""
        event.succeed()
        return self._env.event()


def simulate(scenario: Scenario, owners: Mapping[str, int] | None = None) -> list[Visible]:
    """Run a scenario, and return its events in the order in which they became visible."""
    return Simulation(scenario, owners).run()
