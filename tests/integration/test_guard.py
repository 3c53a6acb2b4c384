"""Who may do what is said of every route, in the code and in the documentation."""

import re
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from infra.access.open_guard import open_guard
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder
from infra.read_models.pattern_queries import RedisPatternQueries
from infra.serving.app import build_app
from infra.settings import Settings
from readapi.access.guard import Rule, rules_of
from readapi.http.operation import Resource, operation

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


def routes_of(app: Any) -> dict[str, object]:
    """The resources of an application by path, as Falcon's router has them."""
    found: dict[str, object] = {}
    nodes = list(app._router._roots)
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.resource is not None:
            path = node.uri_template.replace("{key:parked_key}", "{key}/retry")
            found[re.sub(r":\w+", "", path)] = node.resource
    return found


def documented() -> set[Rule]:
    """The table."""
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (`\w+`|–) \|$", SECURITY.read_text(), re.MULTILINE)
    return {Rule(method, path, None if scope == "–" else scope.strip("`")) for method, path, scope in rows}


def test_the_documentation_says_of_every_route_who_may_ask(redis: Redis, redis_url: str) -> None:
    settings = Settings(redis_url=redis_url)
    stores = Stores(settings, redis, None)
    recorder = open_recorder(stores, open_market_logs(stores), open_dead_letters(stores))
    app = build_app(stores, open_guard(settings), recorder, ("market-0",), RedisPatternQueries)
    rules = rules_of(routes_of(app))
    assert {rule for rule in rules if rule.scope is None} == {Rule("GET", "/api/health", None)}
    assert documented() == set(rules)


class Undeclared(Resource):
    """Nobody has said who may ask."""

    async def on_post(self, *_: Any) -> None:
        """Never asked."""


def test_a_route_without_a_rule_is_refused() -> None:
    with pytest.raises(TypeError, match="nobody has said who may ask POST /api/new"):
        rules_of({"/api/new": Undeclared()})
    with pytest.raises(TypeError, match="scope"):
        operation("New", answers={200: str})  # type: ignore[call-arg]


class Declared(Resource):
    """It is said."""

    @operation("New", scope="write", answers={200: str})
    async def on_get(self, *_: Any) -> None:
        """Never asked."""


def test_a_rule_is_what_is_declared() -> None:
    assert rules_of({"/api/new": Declared()}) == [Rule("GET", "/api/new", "write")]
