"""A population of patterns: messages that are recorded and folded in this process, as recorder and worker do it."""

import time
from collections.abc import Sequence

from redis import Redis
from rich.progress import track

from domain.announcements import Message
from infra.bench.detections import detections
from infra.bench.errors import BenchmarkError
from infra.bench.measurement import PROGRESS_CONSOLE, batches
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.projecting.projector import Projector
from infra.read_models.store import RedisStore
from infra.read_models.versions import change_versions
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.ports import Segment

RECORD_BATCH = 1_000
"""Highest number of messages that are recorded at once."""

LEASE_SECONDS = 36_000.0
"""Duration of the leases on the segments, which outlasts every benchmark."""


class Population:
    """The patterns of one database, with the recorder and the projectors of their live build.

    Args:
        client: A client of the database.
        settings: The settings, among them the number of partitions.

    Raises:
        BenchmarkError: No build is live, or another worker holds the lease of a segment.
    """

    def __init__(self, client: Redis, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        stores = Stores(settings, client, None)
        self.logs = open_market_logs(stores)
        self._recorder = open_recorder(stores, self.logs, open_dead_letters(stores))
        versions = change_versions(client, ActivePatterns.name, lambda each: each.deployed(ActivePatterns.version))
        if versions.live is None:
            raise BenchmarkError("No build of the read model is live.")
        self.segments = [Segment(ActivePatterns.name, versions.live, log) for log in self.logs]
        self._projectors: list[Projector] = []

    def record(self, messages: Sequence[Message]) -> None:
        """Record messages in the market log."""
        for part in batches(messages, RECORD_BATCH):
            self._recorder.record(list(part))

    def fold(self) -> None:
        """Fold the recorded events into the live build."""
        self._projectors = self._projectors or self._create_projectors()
        for projector in self._projectors:
            while projector.step(self.settings.fold_batch, 0)[1]:
                pass

    def release(self) -> None:
        """Release the leases on the segments, so that workers can fold them."""
        RedisStore(self.client).release([projector.lease for projector in self._projectors])
        self._projectors = []

    def _create_projectors(self) -> list[Projector]:
        store = RedisStore(self.client)
        projectors = []
        for segment, lease in zip(self.segments, store.lease(self.segments, "bench", LEASE_SECONDS), strict=True):
            if lease is None:
                raise BenchmarkError(f"Another worker holds the lease of the segment of {segment.log}.")
            projectors.append(Projector(ActivePatterns(), self.logs[segment.log], store, lease))
        return projectors


def fill(client: Redis, settings: Settings, patterns: int, symbols: int) -> None:
    """Record patterns and fold them into the live build."""
    population = Population(client, settings)
    parts = batches(list(detections(patterns, symbols, time.time())), RECORD_BATCH)
    for part in track(parts, description="recording patterns", transient=True, console=PROGRESS_CONSOLE):
        population.record(part)
    PROGRESS_CONSOLE.print("folding patterns …", style="dim")
    population.fold()
