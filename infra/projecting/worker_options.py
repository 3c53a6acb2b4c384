"""Options of a worker."""

from dataclasses import dataclass

from infra.projecting.projector import Projector


@dataclass(frozen=True)
class WorkerOptions:
    """The options with which a worker leases and folds segments."""

    lease_seconds: float
    """Seconds for which a lease lasts without a renewal. The worker renews its leases three times as often."""
    batch_size: int
    """Highest number of log entries per commit, at least 1."""
    throttle: int = 0
    """Highest number of events per second and segment of a build under way, unless a replay sets its own limit. 0: no
    limit."""
    projector_class: type[Projector] = Projector
    """The class of the projectors."""
