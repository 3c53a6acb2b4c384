"""``/api/pattern-discovery/performance``: response times compared with their targets."""

from collections.abc import Sequence
from typing import Literal

from falcon.asgi import Request, Response
from typing_extensions import TypedDict

from readapi.http.operation import Resource, operation
from readapi.http.parameters import Parameters
from readapi.http.request_metrics import WINDOW, RequestMetrics
from readapi.http.responses import send

TARGET_MS = 50.0
"""Target for the 95th percentile of response times, in milliseconds."""

WRITE_TARGET_MS = 100.0
"""Target for the 95th percentile of writes, which wait for the disk, in milliseconds."""


class OperationPerformance(TypedDict):
    """Response times of the most recent requests of one operation, in milliseconds.

    ``met`` is true if the 95th percentile is not above its target.
    """

    operation: str
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    target_p95_ms: float
    met: bool


class PerformanceReport(TypedDict):
    """Response times of one API process, compared with their targets.

    ``window`` is the highest number of requests per operation from which the percentiles are computed.
    """

    status: Literal["met", "missed"]
    window: int
    operations: list[OperationPerformance]


class PerformanceResource(Resource):
    """The performance report."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self._metrics = metrics

    @operation(
        "Compare the response times of this API process with their targets.",
        scope="read",
        responses={200: PerformanceReport},
    )
    async def on_get(self, _req: Request, resp: Response, _query: Parameters) -> None:
        """Send the performance of each operation."""
        operations = [
            _performance(method, route, sorted(seconds))
            for (method, route), seconds in self._metrics.recent_seconds.items()
        ]
        status: Literal["met", "missed"] = "met" if all(each["met"] for each in operations) else "missed"
        send(resp, PerformanceReport(status=status, window=WINDOW, operations=operations))


def _performance(method: str, route: str, ordered_seconds: Sequence[float]) -> OperationPerformance:
    def percentile_ms(percent: int) -> float:
        """Return a percentile by the nearest-rank method, in milliseconds."""
        rank = -(-len(ordered_seconds) * percent // 100)
        return round(ordered_seconds[rank - 1] * 1_000, 3)

    target = WRITE_TARGET_MS if method in ("POST", "DELETE") else TARGET_MS
    p95 = percentile_ms(95)
    return {
        "operation": f"{method} {route}",
        "requests": len(ordered_seconds),
        "p50_ms": percentile_ms(50),
        "p95_ms": p95,
        "p99_ms": percentile_ms(99),
        "target_p95_ms": target,
        "met": p95 <= target,
    }
