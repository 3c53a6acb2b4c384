"""Tags and examples of the OpenAPI document: every operation has a tag, and an example that conforms to its schema."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.serving.app import build_app
from infra.serving.service import prepare_service
from infra.settings import Settings
from readapi.http.example_values import EXAMPLE_VALUES
from readapi.http.examples import example_of
from readapi.http.mounting import DocumentedApplication


class Example(NamedTuple):
    """An example, with the operation and the part of the operation to which it belongs."""

    place: str
    content: Mapping[str, Any]


def document() -> Mapping[str, Any]:
    app = build_app(prepare_service(Settings(redis_url="redis://127.0.0.1:1")))
    assert isinstance(app, DocumentedApplication)
    return app.openapi.document


@pytest.fixture(scope="module")
def described() -> Mapping[str, Any]:
    return document()


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def examples(described: Mapping[str, Any]) -> Iterator[Example]:
    """Yield the body of each operation, and its answers that are no problems and have content."""
    for name, operation in operations(described):
        if "requestBody" in operation:
            yield Example(f"{name}: body", operation["requestBody"]["content"]["application/json"])
        for status, response in operation["responses"].items():
            if status < "300" and "content" in response:
                yield Example(f"{name}: {status}", next(iter(response["content"].values())))


def test_every_operation_has_one_of_the_described_tags(described: Mapping[str, Any]) -> None:
    tags = [tag["name"] for tag in described["tags"]]
    assert len(tags) <= 12
    assert all(tag["description"].endswith(".") for tag in described["tags"])
    assert {
        name: operation["tags"] for name, operation in operations(described) if operation["tags"][0] not in tags
    } == {}
    assert {operation["tags"][0] for _, operation in operations(described)} == set(tags)


def test_every_body_and_answer_has_an_example(described: Mapping[str, Any]) -> None:
    assert [example.place for example in examples(described) if "example" not in example.content] == []
    without_content = [
        name
        for name, operation in operations(described)
        if not any(status < "300" and "content" in each for status, each in operation["responses"].items())
    ]
    assert without_content
    assert all(name.startswith("delete ") for name in without_content)


def test_every_example_conforms_to_its_schema(described: Mapping[str, Any]) -> None:
    components = {"components": described["components"]}
    wrong = {}
    for place, content in examples(described):
        validator = jsonschema_rs.Draft202012Validator({**content["schema"], **components})
        if errors := [error.message for error in validator.iter_errors(content["example"])]:
            wrong[place] = errors[:2]
    assert wrong == {}


def test_the_values_of_examples_are_used(described: Mapping[str, Any]) -> None:
    schemas = described["components"]["schemas"]
    names = {
        name
        for schema in schemas.values()
        for member in schema.get("properties", {})
        for name in (member, f"{schema.get('title')}.{member}")
    }
    assert EXAMPLE_VALUES.keys() - names == set()


LEAVES = st.sampled_from(
    [{"type": kind} for kind in ("string", "number", "integer", "boolean", "null")]
    + [{"enum": ["a", "b"]}, {"const": 7}, {"anyOf": [{"type": "integer"}, {"type": "null"}]}]
)
NAMES = st.sampled_from(["symbol", "position", "version", "counts", "unknown", "next"])
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: (
        st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda values: {"type": "object", "additionalProperties": values}, inner)
        | st.builds(
            lambda members: {"type": "object", "properties": members, "required": list(members)},
            st.dictionaries(NAMES, inner),
        )
    ),
)


@given(SCHEMAS)
def test_an_example_conforms_to_any_schema(schema: dict[str, Any]) -> None:
    assert jsonschema_rs.is_valid(schema, example_of(schema, {}))
