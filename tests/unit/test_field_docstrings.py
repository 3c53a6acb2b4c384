"""The docstrings of attributes, and their place in the schemas of parameters."""

from pydantic import Field

from readapi.http.field_docstrings import field_docstrings
from readapi.http.parameters import Parameters, derive_parameters


class Base(Parameters):
    kept: int = 1
    """Kept by
    the derived class."""
    replaced: int = 1
    """Described in the base class."""
    undescribed: int = 1


class Derived(Base):
    replaced: int = 2
    renamed: bool = Field(False, alias="from")
    """Described under its alias."""
    described: int = Field(0, description="Described by its field.")
    """Not shown."""


def test_a_class_has_the_docstrings_of_its_base_classes_but_for_attributes_that_it_defines_anew() -> None:
    assert field_docstrings(Base) == {
        "kept": "Kept by\nthe derived class.",
        "replaced": "Described in the base class.",
    }
    assert field_docstrings(Derived).keys() == {"kept", "renamed", "described"}


def test_a_class_without_a_source_has_the_docstrings_of_its_base_classes() -> None:
    derived = derive_parameters(Derived, "Derived", {"further": (int, 0)})
    assert field_docstrings(derived) == field_docstrings(Derived)


def test_the_schema_of_parameters_has_the_docstrings_as_descriptions() -> None:
    properties = Derived.model_json_schema()["properties"]
    assert {name: schema.get("description") for name, schema in properties.items()} == {
        "kept": "Kept by\nthe derived class.",
        "replaced": None,
        "undescribed": None,
        "from": "Described under its alias.",
        "described": "Described by its field.",
    }
