"""Query parameters of a subscription to one topic."""

from typing import Annotated

from pydantic import Field, StringConstraints

from projections.queries import Equality, Filter
from projections.workspaces import WorkspaceRow
from readapi.catalogue.filters import Catalogue
from readapi.http.client_stream import MAX_EVENT_ID_LENGTH
from readapi.http.parameters import ListedKey, ListOf, Parameters
from readapi.patterns.list_filters import QueryParameters
from readapi.push.subscriptions import TopicSubscription, shared_filters
from readapi.push.topics import Topic
from readapi.read_models.filter_parameters import filters_of

EventId = Annotated[
    str, StringConstraints(max_length=MAX_EVENT_ID_LENGTH), Field(json_schema_extra={"format": "event-id"})
]


class TopicParameters(Parameters):
    """Filters and fields of a topic. The model of a topic adds the filters of its columns."""

    fields: tuple[str, ...] | None = None

    @property
    def needs_workspace(self) -> bool:
        """Whether the filters depend on the workspace of the user."""
        return False

    def subscription(
        self, topic: Topic, parameters: QueryParameters, catalogue: Catalogue, workspace: WorkspaceRow | None
    ) -> TopicSubscription:
        """Resolve the subscription.

        Args:
            topic: The topic.
            parameters: The query parameters from which this model was parsed.
            catalogue: The catalogue.
            workspace: The workspace of the user, if ``needs_workspace``.

        Raises:
            Problem: 400, the request names a sector, universe or list that does not exist.
            UnavailableError: The catalogue is not loaded yet.
        """
        del parameters, catalogue, workspace
        return TopicSubscription(topic, shared_filters(self.topic_filters(topic)), self.fields or ())

    def topic_filters(self, topic: Topic) -> tuple[Filter, ...]:
        """Return the filters of the topic."""
        return filters_of(topic.projection, self.__dict__)


class BacktestParameters(TopicParameters):
    """Filters and fields of the topic ``backtests``."""

    job_ids: ListOf[ListedKey] | None = None
    """Ids of the backtest runs to subscribe to. All runs if it is missing."""

    def topic_filters(self, topic: Topic) -> tuple[Filter, ...]:
        """Return the filters of the topic."""
        filters = super().topic_filters(topic)
        return filters if self.job_ids is None else (*filters, Equality("job_id", frozenset(self.job_ids)))
