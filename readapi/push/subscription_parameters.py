"""Query parameters of a subscription to several topics, derived from the declarations of the read models.

A parameter applies to each requested topic that has it. The parameters of each topic are validated separately, because
topics may have parameters with equal names and different types.
"""

from collections.abc import Collection, Iterator, Mapping, Set
from functools import cache, partial
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from readapi.access.problems import missing_scope
from readapi.http.identities import Identity
from readapi.http.parameters import ListOf, Name, Parameters, derive_parameters, optional_schema, parse_parameters
from readapi.http.problems import FieldError, invalid
from readapi.patterns.list_filters import QueryParameters
from readapi.push.pattern_parameters import PatternSubscriptionParameters
from readapi.push.topic_parameters import BacktestParameters, EventId, TopicParameters
from readapi.push.topics import PATTERNS, Topic, Topics
from readapi.read_models.filter_parameters import ParameterFields, filter_fields
from readapi.read_models.page_parameters import member_names

_BASES: Mapping[str, type[TopicParameters]] = {
    PATTERNS: PatternSubscriptionParameters,
    "backtests": BacktestParameters,
}
"""The parameters of the topics that have further parameters than the filters of their columns."""

DEFAULT_TOPICS = (PATTERNS, "backtests")
"""The topics of a client that names none."""


def topic_parameters(topic: Topic) -> type[TopicParameters]:
    """Return the model of the parameters of a topic. Further parameters precede filters of columns with equal names."""
    base = _BASES.get(topic.name, TopicParameters)
    names: Any = Literal[member_names(topic.projection)]
    fields: ParameterFields = {"fields": (ListOf[names] | None, base.model_fields["fields"].default)}
    for name, field in filter_fields(topic.projection).items():
        if name not in base.model_fields:
            fields[name] = field
    return derive_parameters(base, base.__name__, fields)


class SubscriptionParameters(Parameters):
    """Query parameters that concern all topics. ``TopicsParameters`` validates the others."""

    model_config = ConfigDict(extra="allow")

    topics: tuple[str, ...]
    fields: ListOf[Name] | None = None
    """Members of each row: names of columns or of views. A topic takes the names that it has. If it has none of them,
    it sends all columns (``patterns``: the view ``compact``, ``backtests``: the view ``run``)."""
    last_event_id: EventId | None = None
    """``id`` of the last message that you received. The changes after it are sent first. The header ``Last-Event-ID``,
    which an ``EventSource`` sends when it reconnects, takes precedence."""


class RequestedTopic(NamedTuple):
    """A topic of a request, with the parameters that apply to the topic."""

    topic: Topic
    query: TopicParameters
    parameters: QueryParameters
    """The query parameters from which ``query`` was parsed."""


class TopicsParameters:
    """The parameters of subscriptions to any of some topics.

    Args:
        topics: The topics by name.
    """

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._models = {name: topic_parameters(topic) for name, topic in topics.items()}
        self.model = self._model()
        """The model of all parameters of a request."""

    def names_of(self, topic: str) -> Set[str]:
        """Return the names of the parameters of a topic."""
        return self._models[topic].model_fields.keys()

    def _model(self) -> type[SubscriptionParameters]:
        names: Any = Literal[tuple(self._topics)]
        topics = Field(
            default=tuple(name for name in DEFAULT_TOPICS if name in self._topics),
            description="Read models to whose changes you subscribe. Your token needs the scope of each of them.",
        )
        fields: ParameterFields = {"topics": (ListOf[names], topics), **dict(_described(self._models))}
        return derive_parameters(SubscriptionParameters, "SubscriptionParameters", fields)

    def requested(
        self, query: SubscriptionParameters, parameters: QueryParameters, identity: Identity
    ) -> list[RequestedTopic]:
        """Return the requested topics with their parameters, ordered by name.

        Args:
            query: The parameters that concern all topics.
            parameters: All query parameters of the request.
            identity: The client.

        Raises:
            Problem: 400, a parameter is wrong or no topic has it. 403, the token lacks the scope of a topic.
        """
        names = sorted(set(query.topics))
        for name in names:
            scope = self._topics[name].projection.scope
            if scope is not None and scope not in identity.scopes:
                raise missing_scope(scope)
        errors = [*self._unknown_parameters(names, parameters), *self._unknown_fields(names, query.fields or ())]
        if errors:
            raise invalid(errors)
        return [self._requested(self._topics[name], query, parameters) for name in names]

    def _unknown_parameters(self, topics: Collection[str], parameters: QueryParameters) -> Iterator[FieldError]:
        known = dict.fromkeys(SubscriptionParameters.model_fields)
        for topic in topics:
            known |= dict.fromkeys(self._models[topic].model_fields)
        for name in sorted(parameters.keys() - known.keys()):
            reason = f"is not a parameter of the requested topics ({', '.join(topics)}); known: {', '.join(known)}"
            yield {"field": name, "reason": reason}

    def _unknown_fields(self, topics: Collection[str], fields: Collection[str]) -> Iterator[FieldError]:
        known = dict.fromkeys(name for topic in topics for name in member_names(self._topics[topic].projection))
        for number, name in enumerate(fields):
            if name not in known:
                yield {"field": f"fields[{number}]", "reason": f"should be one of {', '.join(known)}, and is {name!r}"}

    def _requested(self, topic: Topic, query: SubscriptionParameters, parameters: QueryParameters) -> RequestedTopic:
        model, members = self._models[topic.name], member_names(topic.projection)
        fields = [name for name in query.fields or () if name in members]
        own = {name: value for name, value in parameters.items() if name in model.model_fields and name != "fields"}
        own = {**own, "fields": fields} if fields else own
        return RequestedTopic(topic, parse_parameters(model, own), own)


def _described(models: Mapping[str, type[TopicParameters]]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield the parameters of all topics with their types in OpenAPI. Their values are validated for each topic."""

    @cache
    def schemas() -> dict[str, dict[str, Any]]:
        return {topic: model.model_json_schema()["properties"] for topic, model in models.items()}

    def describe(name: str, schema: dict[str, Any]) -> None:
        """Add the schema of a parameter, which only the OpenAPI document needs."""
        variants = {
            topic: optional_schema(properties[name]) for topic, properties in schemas().items() if name in properties
        }
        schema.update(_merged(variants))

    for name in dict.fromkeys(name for model in models.values() for name in model.model_fields):
        if name not in SubscriptionParameters.model_fields:
            yield name, (Any, Field(default=None, json_schema_extra=partial(describe, name)))


def _merged(variants: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Merge the schemas of one parameter of several topics. The arguments are the schemas by topic."""
    topics_by_description: dict[str, list[str]] = {}
    types: list[dict[str, Any]] = []
    for topic, schema in variants.items():
        topics_by_description.setdefault(schema.get("description", ""), []).append(f"``{topic}``")
        constraints = {keyword: value for keyword, value in schema.items() if keyword != "description"}
        if constraints not in types:
            types.append(constraints)
    description = " ".join(f"{', '.join(topics)}: {text}" for text, topics in topics_by_description.items())
    return {**(types[0] if len(types) == 1 else {"anyOf": types}), "description": description}
