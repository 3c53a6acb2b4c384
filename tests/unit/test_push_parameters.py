"""The parameters of subscriptions to several topics, as OpenAPI describes them."""

from collections.abc import Mapping
from typing import Any

import pytest

from projections.queries import ALWAYS, matcher
from projections.registry import READ_MODELS
from readapi.compatibility.tickstock.shown_values import SHOWN_VALUES
from readapi.http.parameters import optional_schema, parse_parameters
from readapi.push.pattern_parameters import PatternSubscriptionParameters
from readapi.push.subscription_parameters import TopicsParameters, topic_parameters
from readapi.push.topics import topics_of
from readapi.read_models.filter_parameters import AS_THEY_ARE
from tests.catalogue import CatalogueFixture
from tests.events import pattern_detected
from tests.push import TOPICS


def described(*topics: str) -> dict[str, Any]:
    parameters = TopicsParameters({name: TOPICS[name] for name in topics})
    return {
        name: optional_schema(schema) for name, schema in parameters.model.model_json_schema()["properties"].items()
    }


def test_topics_are_the_read_models_that_tell_rows_and_that_clients_may_read() -> None:
    assert list(TOPICS) == ["activity", "backtests", "patterns", "producers", "symbols", "universes"]
    assert topics_of({}) == {}


def test_a_parameter_is_described_for_each_topic_that_has_it() -> None:
    properties = described("activity", "patterns", "producers")
    assert properties["rs_min"]["type"] == "number"
    assert properties["rs_min"]["description"].startswith("``patterns``: Lowest relative strength.")
    assert properties["reports_min"]["description"].startswith("``producers``: Lowest value. Number of reports")
    source = properties["source"]
    assert "``activity``: Name of the producer." in source["description"]
    assert "``producers``: " in source["description"]
    # The type is that of each topic: keys may be longer than other values.
    assert [variant["items"]["pattern"] for variant in source["anyOf"]] == [
        topic_parameters(TOPICS[name]).model_json_schema()["properties"]["source"]["anyOf"][0]["items"]["pattern"]
        for name in ("activity", "producers")
    ]
    assert properties["topics"]["items"]["enum"] == ["activity", "patterns", "producers"]
    assert properties["topics"]["default"] == ["patterns"]


def test_the_parameters_have_the_same_order_in_every_process() -> None:
    """The document of one API process must not differ from that of another."""
    names = list(TopicsParameters(TOPICS).model.model_fields)
    first_topic = [name for name in topic_parameters(next(iter(TOPICS.values()))).model_fields if name in names]
    assert [name for name in names if name in first_topic] == ["fields", *(n for n in first_topic if n != "fields")]


def test_the_parameters_of_the_scan_keep_their_meaning_beside_those_of_the_columns() -> None:
    properties = described("patterns", "symbols")
    assert properties["confidence_min"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "default": 0.5,
        "description": "``patterns``: Lowest confidence, from 0 to 1. 0 is no bound.",
    }
    assert {"symbols", "sectors", "watchlist", "confidence_max", "rsi_range", "sector"} <= properties.keys()


@pytest.mark.parametrize(("shown_values", "matches"), [(SHOWN_VALUES, True), (AS_THEY_ARE, False)])
def test_a_subscription_compares_the_numbers_that_the_api_shows(
    shown_values: Mapping[str, float], matches: bool
) -> None:
    topic = topics_of(READ_MODELS, shown_values)["patterns"]
    parameters = {"rs_min": "1.0", "rsi_range": "40,60", "relative_volume_max": "1.0"}
    asked = parse_parameters(PatternSubscriptionParameters, parameters)
    subscription = asked.subscription(topic, parameters, CatalogueFixture([], {}).catalogue, None)
    row = topic.projection.evolve(None, pattern_detected())
    assert matcher(topic.projection, subscription.filters, ALWAYS)(row.id, row) is matches
