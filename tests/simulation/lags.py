"""The lag of the events of each partition."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from infra.bench.measurement import quantile
from tests.simulation.model import Visible


class Lags(NamedTuple):
    """Percentiles of the seconds from the arrival of an event until it is visible."""

    events: int
    p50: float
    p90: float
    p99: float
    longest: float


def lags_by_log(visible: Iterable[Visible]) -> dict[str, Lags]:
    """Return the lags of each log, in the order of the logs' numbers."""
    lags = defaultdict[str, list[float]](list)
    for event in visible:
        lags[event.arrival.log].append(event.lag)
    return {
        log: _lags(sorted(values)) for log, values in sorted(lags.items(), key=lambda item: (len(item[0]), item[0]))
    }


def _lags(ascending: list[float]) -> Lags:
    return Lags(len(ascending), *(quantile(ascending, share) for share in (0.5, 0.9, 0.99)), ascending[-1])
