"""The access rules of all routes, in the code and in docs/security.md."""

import re
from pathlib import Path
from typing import Any

import pytest
from falcon.asgi import App, Request, Response

from infra.serving.app import build_app
from infra.serving.service import open_service
from infra.settings import Settings
from projections.registry import READ_MODELS
from readapi.access.guard import AccessRule, access_rules
from readapi.http.operation import Resource, operation

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"


class RecordingApp(App[Request, Response]):
    """An application that records its resources by path."""

    def __init__(self) -> None:
        super().__init__()
        self.resources: dict[str, object] = {}

    def add_route(self, uri_template: str, resource: object, **kwargs: Any) -> None:
        path = uri_template.replace("{key:parked_key}", "{key}/retry")
        self.resources[re.sub(r":\w+", "", path)] = resource
        super().add_route(uri_template, resource, **kwargs)


def documented_rules() -> set[AccessRule]:
    """Return the rules in the table of docs/security.md."""
    rows = re.findall(r"^\| (\w+) \| `([^`]+)` \| (`\w+`|–) \|$", SECURITY.read_text(), re.MULTILINE)
    return {
        AccessRule(method, route, None if scope == "–" else scope.strip("`"))
        for method, path, scope in rows
        for route in routes(path)
    }


def routes(path: str) -> list[str]:
    """Return the routes of a documented path: one for each read model if it names ``/api/read-models/{name}``."""
    if not path.startswith("/api/read-models/{name}"):
        return [path]
    projections = [projection for projection in READ_MODELS.values() if projection.scope]
    return [path.format(name=each.name, key=f"{{{each.key}}}", count="{count}") for each in projections]


def test_the_documentation_lists_the_access_rule_of_every_route(redis_url: str) -> None:
    service = open_service(Settings(redis_url=redis_url))
    app = RecordingApp()
    build_app(service, host=app)
    service.stores.redis.close()
    rules = access_rules(app.resources)
    public = ("/api/health", "/api/health/live", "/api/health/ready", "/console", "/console/{name}")
    assert {rule for rule in rules if rule.scope is None} == {AccessRule("GET", path, None) for path in public}
    assert documented_rules() == set(rules)


class UnrestrictedResource(Resource):
    """A resource that declares no scope."""

    async def on_post(self, *_: Any) -> None:
        """Do nothing."""


def test_a_route_without_a_scope_is_refused() -> None:
    with pytest.raises(TypeError, match="POST /api/new declares no scope"):
        access_rules({"/api/new": UnrestrictedResource()})
    with pytest.raises(TypeError, match="scope"):
        operation("New", responses={200: str})  # type: ignore[call-arg]


class RestrictedResource(Resource):
    """A resource that declares a scope."""

    @operation("New", scope="write", responses={200: str})
    async def on_get(self, *_: Any) -> None:
        """Do nothing."""


def test_an_access_rule_has_the_declared_scope() -> None:
    assert access_rules({"/api/new": RestrictedResource()}) == [AccessRule("GET", "/api/new", "write")]
