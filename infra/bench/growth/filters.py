"""How the cost of a change grows with the number of different filters of live push."""

import asyncio
import gc
import random
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from rich.progress import track

from infra.bench.as_of import synthetic_states
from infra.bench.growth.measurements import LINEAR, Growth, Measurements, Quantity
from infra.bench.growth.populations import MAX_SYMBOLS
from infra.bench.measurement import PROGRESS_CONSOLE, batches
from infra.bench.scans import SCAN_KINDS, ScanKind
from projections.base import encode_row
from projections.patterns import ActivePatterns
from projections.versions import Build
from readapi.ports.commits import Commit, CommitId, RowChange
from readapi.push.messages import websocket_frame
from readapi.push.publisher import Publisher
from readapi.push.subscribers import Subscriber
from readapi.push.subscriptions import TopicSubscription
from readapi.push.topics import topics_of

CHANGES = 100
"""Number of changes of a commit: ten commits a second at the peak of 1,000 events a second."""

UNSENT_BYTES = 2**30
"""Bound of the bytes that wait for all clients. Nothing waits in this measurement."""

BUILD, LOG = Build(1, 1), "market-0"

MEASURED_KINDS = "AC"
"""Kinds of scans whose filters are measured: most changes match those of A, and few changes match those of C."""


class _Sink:
    """The connection of a client that reads at once. The cost of sockets is measured by ``tickview bench push``."""

    unsent_bytes = 0
    is_ended = False

    def write(self, data: bytes) -> None:
        """Discard a message."""

    async def drain(self) -> None:
        """Return at once, because no byte waits."""

    def finish(self, code: int, reason: str) -> None:
        """End the connection."""
        del code, reason
        self.is_ended = True

    def abort(self) -> None:
        """End the connection."""
        self.is_ended = True


def measure(filters: Sequence[int], rounds: int) -> list[Growth]:
    """Measure the processor time per change with different numbers of filters, each with one client.

    Args:
        filters: The numbers of filters.
        rounds: Number of rounds in which the numbers of filters alternate.
    """
    measured = Measurements()
    kinds = [kind for kind in SCAN_KINDS if kind.name in MEASURED_KINDS]
    publishers = {
        (kind, number): _publisher(kind, number)
        for kind in track(kinds, "connecting clients", transient=True, console=PROGRESS_CONSOLE)
        for number in filters
    }
    commits = list(_commits((rounds + 1) * CHANGES))
    # The garbage collector must not look through the clients: an API process has as many only if they are its own.
    gc.collect()
    gc.freeze()
    asyncio.run(_measure(publishers, commits, measured))
    return measured.growths()


async def _measure(
    publishers: Mapping[tuple[ScanKind, int], Publisher], commits: Iterable[Commit], measured: Measurements
) -> None:
    for publisher in publishers.values():
        publisher.feeds["patterns"].start_build(BUILD, {LOG: CommitId(0)})
        await publisher.publish()
    for turn, commit in enumerate(commits):
        for (kind, number), publisher in publishers.items():
            publisher.feeds["patterns"].receive(commit)
            started = time.process_time()
            await publisher.publish()
            if turn:  # The first message of a group computes what all later ones share.
                quantity = Quantity(f"push, filters {kind.name}: {kind.description}", "µs/change", LINEAR)
                measured.add(quantity, number, (time.process_time() - started) / CHANGES * 1e6)


def _publisher(kind: ScanKind, number: int) -> Publisher:
    """Return a publisher with this number of clients, each with other filters."""
    chance = random.Random(kind.name)  # noqa: S311 not for security
    topics = topics_of({"patterns": ActivePatterns()})
    publisher = Publisher(topics, time.time, lambda: None, UNSENT_BYTES)
    subscriptions = {(TopicSubscription(topics["patterns"], kind.vary(chance, MAX_SYMBOLS)[0].filters),)}
    while len(subscriptions) < number:
        subscriptions.add((TopicSubscription(topics["patterns"], kind.vary(chance, MAX_SYMBOLS)[0].filters),))
    for subscription in subscriptions:
        publisher.subscribers.join(Subscriber(_Sink(), websocket_frame, subscription))
    return publisher


def _commits(changes: int) -> Iterator[Commit]:
    """Yield commits that change the confidence of patterns."""
    position = 0
    for states in batches(list(synthetic_states(changes, MAX_SYMBOLS)), CHANGES):
        position += CHANGES
        rows = [replace(state.row, expires_at=None) for state in states if state.row]
        old = [encode_row(row, position) for row in rows]
        new = [encode_row(replace(row, confidence=row.confidence / 2), position) for row in rows]
        changed = [RowChange(row.id, *documents) for row, *documents in zip(rows, old, new, strict=True)]
        yield Commit(BUILD, LOG, CommitId(position), None, changed, knows_old=True)
