"""Sharing of segments among workers: the registry of live workers, and the fair share of each worker."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from infra.projecting.build_lifecycle import ModelBuild
from infra.read_models.keys import workers_key
from infra.redis.connections import RedisClient
from infra.redis.functions import command, with_functions
from projections.ports import Segment


class WorkerRank(NamedTuple):
    """The rank of a worker among the live workers whose code can fold a build."""

    place: int
    """The place in the order of the workers' names, from 0."""
    workers: int
    """The number of live workers, at least 1."""


def register_worker(client: RedisClient, worker: str, builds: Sequence[ModelBuild], seconds: float) -> list[WorkerRank]:
    """Register a worker as alive for ``seconds``, for each build that it can fold. Return its rank for each build."""
    return [WorkerRank(*reply) for reply in _register(client, worker, builds, seconds)]


def unregister_worker(client: RedisClient, worker: str, builds: Sequence[ModelBuild]) -> None:
    """Remove a worker from the registry of each build."""
    _register(client, worker, builds, 0)


def _register(client: RedisClient, worker: str, builds: Sequence[ModelBuild], seconds: float) -> list[tuple[int, int]]:
    def register() -> list[tuple[int, int]]:
        with client.pipeline(transaction=False) as pipeline:
            for build in builds:
                pipeline.execute_command(
                    *command("register_worker", [workers_key(*build)], (worker, round(seconds * 1000)))
                )
            return [(place, count) for place, count in pipeline.execute()]

    return with_functions(client, register)


@dataclass
class FairShare:
    """The segments of one build that one worker holds and may lease."""

    surplus: list[Segment]
    """Segments that the worker holds beyond its share."""
    missing: int
    """Number of segments that the worker should lease in addition."""
    candidates: list[Segment]
    """Segments that the worker does not hold and has not tried to lease, in the order in which it should try."""

    @classmethod
    def of(cls, build: ModelBuild, logs: Sequence[str], rank: WorkerRank, held: Sequence[Segment]) -> "FairShare":
        """Divide the segments of a build among its workers. The shares differ by one segment at most.

        The name of the read model decides which workers have the larger shares, so that these are not the same workers
        for all read models. Each place prefers segments of its own, so that workers that start together seldom compete
        for a lease.
        """
        first = (rank.place - sum(build.read_model.encode())) % rank.workers
        own = logs[first :: rank.workers]
        size = len(own)
        segments = [Segment(*build, log) for log in (*own, *(log for log in logs if log not in own))]
        return cls(
            surplus=list(held[size:]),
            missing=size - len(held[:size]),
            candidates=[segment for segment in segments if segment not in held],
        )

    def next_candidates(self) -> list[Segment]:
        """Take as many candidates as segments are missing."""
        taken, self.candidates = self.candidates[: self.missing], self.candidates[self.missing :]
        return taken
