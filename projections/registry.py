"""The registry of projections. TickView's own projections and those of plug-ins are registered in the same way."""

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from projections import previous
from projections.activity import Activity
from projections.backtests import Backtests
from projections.base import Projection
from projections.checks import ProjectionError, check_projection
from projections.patterns import ActivePatterns
from projections.producers import Producers
from projections.symbols import Symbols
from projections.universes import Universes
from projections.workspaces import Workspaces

READ_MODELS: dict[str, Projection[Any, Any]] = {}
"""Every current projection by the name of its read model."""

FORMER: list[Projection[Any, Any]] = []
"""Projections of earlier versions. Workers keep builds of these versions current, so that a rollback stays possible."""


def register_projection(projection: Projection[Any, Any]) -> None:
    """Register a projection. Registering a class again changes nothing.

    One package may register several versions of a read model. The highest version is the current projection, and the
    others are former ones.

    Raises:
        ProjectionError: The object is no complete projection, or its name and version belong to another one.
    """
    check_projection(projection)
    _check_history(projection)
    name, version = projection.name, projection.version
    current = READ_MODELS.get(name)
    for other in (current, *FORMER):
        if other is None or other.name != name:
            continue
        if type(other) is type(projection):
            return
        module = type(other).__module__
        if _package(other) != _package(projection):
            raise ProjectionError(f"has the name {name}, which {module} already uses: choose another name")
        if other.version == version:
            raise ProjectionError(f"has the name {name} and the version {version}, as a class of {module} already has")
        _check_new_columns(*sorted((other, projection), key=lambda each: each.version))
    if current is None or version > current.version:
        READ_MODELS[name] = projection
        FORMER.extend([current] if current else [])
    else:
        FORMER.append(projection)


def projection_of(projections: Iterable[Projection[Any, Any]], name: str, version: int) -> Projection[Any, Any] | None:
    """Return the projection that folds this version of a read model, or None."""
    for projection in projections:
        if (projection.name, projection.version) == (name, version):
            return projection
    return None


def _check_history(projection: Projection[Any, Any]) -> None:
    """Check that no other read model has a history of the same name, and thus the same tables."""
    for other in READ_MODELS.values():
        if other.history is not None and other.history == projection.history and other.name != projection.name:
            raise ProjectionError(
                f"has the history {other.history}, which {other.name} already has: choose another name"
            )


def _former_projections(package: ModuleType) -> Iterator[Projection[Any, Any]]:
    """Yield the projections that the modules of a package define."""
    for module in iter_modules(package.__path__, f"{package.__name__}."):
        for value in vars(import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, Projection) and value.__module__ == module.name:
                yield value()


def all_projections() -> list[Projection[Any, Any]]:
    """Return every projection of this process, current and former."""
    return [*READ_MODELS.values(), *FORMER]


def _check_new_columns(older: Projection[Any, Any], newer: Projection[Any, Any]) -> None:
    """Check that each new column has a default: after a rollback, API processes read older rows as newer ones."""
    known = {field.name for field in fields(older.row)}
    for field in fields(newer.row):
        if field.name not in known and field.default is MISSING and field.default_factory is MISSING:
            raise ProjectionError(
                f"is kept beside another version of {older.name}, but the new column {field.name} of version "
                f"{newer.version} has no default: give it one, which queries show after a rollback"
            )


def _package(projection: Projection[Any, Any]) -> str:
    return type(projection).__module__.partition(".")[0]


_CURRENT: tuple[Projection[Any, Any], ...] = (
    ActivePatterns(),
    Backtests(),
    Activity(),
    Producers(),
    Symbols(),
    Universes(),
    Workspaces(),
)

for _projection in (*_CURRENT, *_former_projections(previous)):
    register_projection(_projection)
