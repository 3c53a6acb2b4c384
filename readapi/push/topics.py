"""Topics: the read models whose changes clients can subscribe to."""

from collections.abc import Mapping
from functools import lru_cache

from projections.queries import AnyProjection
from projections.views import View
from readapi.read_models.filter_parameters import AS_THEY_ARE
from readapi.read_models.page_parameters import view_of
from readapi.read_models.rendering import all_columns

PATTERNS = "patterns"
"""The topic whose filters may refer to the catalogue and to the lists of users."""

_FORMS = {PATTERNS: ("pattern", "compact"), "backtests": ("backtest", "run")}
"""Topic -> the member of a change that holds the row, and the view of a client that requests no fields.

The changes of all other topics hold all columns in the member ``row``.
"""

CACHED_VIEWS = 256
"""Number of requested sets of fields whose views are cached for each topic. Clients with one view share its bytes."""


class Topic:
    """A read model whose changes clients can subscribe to.

    Args:
        name: The name of the read model.
        projection: The projection of the read model.
        shown_values: Column -> the number that answers show where a row has none.
    """

    def __init__(self, name: str, projection: AnyProjection, shown_values: Mapping[str, float] = AS_THEY_ARE) -> None:
        self.name = name
        self.projection = projection
        self.shown_values = shown_values
        self.member, view = _FORMS.get(name, ("row", None))
        self._default_view = projection.views[view] if view else all_columns(projection)
        self.view = lru_cache(CACHED_VIEWS)(self._view)

    def _view(self, fields: tuple[str, ...]) -> View:
        """Return the view with the requested views and members. Empty: the view of a client that requests none."""
        return view_of(self.projection, fields) if fields else self._default_view


Topics = Mapping[str, Topic]
"""The topics by name."""


def topics_of(projections: Mapping[str, AnyProjection], shown_values: Mapping[str, float] = AS_THEY_ARE) -> Topics:
    """Return the topics among read models: those whose commits tell the rows, and which clients may read.

    Args:
        projections: The projections by name of their read models.
        shown_values: Column of a pattern -> the number that answers show where a pattern has none.
    """
    return {
        name: Topic(name, projection, shown_values if name == PATTERNS else AS_THEY_ARE)
        for name, projection in sorted(projections.items())
        if projection.tells_rows and projection.scope is not None
    }
