"""The read models there are."""

from typing import Any

from projections.activity import Activity
from projections.backtests import Backtests
from projections.base import Projection
from projections.patterns import ActivePatterns
from projections.producers import Producers

READ_MODELS: dict[str, Projection[Any, Any]] = {
    projection.name: projection for projection in (ActivePatterns(), Backtests(), Activity(), Producers())
}
"""Every projection by its name."""
