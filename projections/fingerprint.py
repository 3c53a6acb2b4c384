"""Fingerprints of projections: 16 hexadecimal digits that reveal a change of a projection without a new version.

A fingerprint covers the behaviour of the source and not its layout: it is computed from the syntax trees without
docstrings, comments and imports. It is equal under every Python from 3.11 on. For this reason this module serializes
the trees itself: the format of ``ast.dump`` differs between releases of Python.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from hashlib import sha256
from types import ModuleType
from typing import Any, NamedTuple, Self

from domain.errors import TickViewError
from projections import columns, views
from projections.base import Projection

FOUNDATION = {Projection.__module__, columns.__name__, views.__name__}
"""The modules of the base class. They belong to the engine, so that a change of them changes no fingerprint."""


class ProjectionCode(NamedTuple):
    """The identity of the code of one projection. Two processes with equal identities fold the same rows."""

    read_model: str
    version: int
    fingerprint: str

    @classmethod
    def of(cls, projection: Projection[Any, Any]) -> Self:
        """Return the identity of a projection. Call this at start-up, as ``fingerprint``.

        Raises:
            NoSourceError: A module of the projection has no source.
        """
        return cls(projection.name, projection.version, fingerprint(projection))


class NoSourceError(TickViewError, ValueError):
    """A module of the projection is installed without its source, so that no fingerprint can be computed."""


def fingerprint(projection: Projection[Any, Any]) -> str:
    """Compute the fingerprint of a projection.

    It covers the module of the projection, the modules of its base classes and of its row, and the modules of the same
    top-level package that these import. It covers neither the engine nor other packages, nor modules that define the
    handled events, because events have schema versions. The names of modules do not matter. The function reads the
    source files. Call it at start-up, while the files are still those that Python has imported.

    Returns:
        16 hexadecimal digits.

    Raises:
        NoSourceError: A module has no source.
    """
    classes = (*type(projection).__mro__, projection.row)
    pending = {cls.__module__ for cls in classes if _top_level(cls.__module__) not in sys.stdlib_module_names}
    events = {cls.__module__ for event_type in projection.handles for cls in event_type.__mro__}
    seen = FOUNDATION | (events - pending)
    trees = []
    while pending := pending - seen:
        name = pending.pop()
        seen.add(name)
        tree = _tree(sys.modules[name])
        trees.append(canonical(tree))
        imported = _imported_modules(tree, sys.modules[name])
        pending |= {other for other in imported if _top_level(other) == _top_level(name)}
    return sha256("\n".join(sorted(trees)).encode()).hexdigest()[:16]


def _top_level(module_name: str) -> str:
    return module_name.partition(".")[0]


def _tree(module: ModuleType) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError) as error:
        raise NoSourceError(
            f"There is no source of {module.__name__}, so TickView cannot tell whether its projection has changed. "
            "Install the package with its .py files."
        ) from error


def _imported_modules(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    """Yield the modules that top-level import statements name."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            origin = _absolute_name(statement, module)
            names = [origin, *(f"{origin}.{alias.name}" for alias in statement.names)]
        else:
            continue
        yield from (name for name in names if name in sys.modules)


def _absolute_name(statement: ast.ImportFrom, module: ModuleType) -> str:
    package = (module.__package__ or "").split(".")
    above = package[: len(package) + 1 - statement.level] if statement.level else []
    return ".".join([*above, *filter(None, [statement.module])])


def canonical(node: object) -> str:
    """Serialize a syntax tree to text that depends only on the behaviour of the code.

    The text omits fields without a value, because newer releases of Python have more of them, and statements without
    effect.
    """
    if isinstance(node, ast.AST):
        fields = sorted(_fields(node))
        return f"{type(node).__name__}({','.join(f'{name}={canonical(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(canonical(item) for item in node if not _is_without_effect(item))}]"
    return ascii(node)


def _fields(node: ast.AST) -> Iterator[tuple[str, object]]:
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr):
            # Python 3.12 ends a format specification with an empty text.
            yield name, [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        # ``kind`` is the prefix of u"…"; ``ctx`` follows from the position of an expression.
        elif value is not None and value != [] and name not in ("kind", "ctx", "type_comment"):
            yield name, value


def _is_without_effect(node: object) -> bool:
    """Return whether a statement is a docstring or another bare constant, ``pass``, or an import."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass | ast.Import | ast.ImportFrom)
