"""What a projection's code and declarations come to, in 16 digits: a change to them without a new version is noticed.

The digits are of what the source does, not of its looks: of its syntax tree without docstrings and imports. They are
the same under every Python from 3.11 on, which is why the tree is written down here and not by ``ast.dump``, whose
form changes between releases.
"""

import ast
import inspect
import sys
from collections.abc import Iterator
from hashlib import sha256
from types import ModuleType
from typing import Any

from domain.errors import TickViewError
from projections.base import Projection

FOUNDATION = Projection.__module__
"""Belongs to the engine: a change there is not a change to one projection."""


class NoSourceError(TickViewError, ValueError):
    """A module of the projection was installed without its source, from which the fingerprint is made."""


def fingerprint(projection: Projection[Any, Any]) -> str:
    """16 hexadecimal digits that change with ``keys``, ``evolve``, the indexes, the row, or whatever they use.

    They cover the whole module that defines the projection, those of its base classes and of its row, and the modules
    of the same top-level package that these import. A copy of the module under another name has the same digits. Not
    covered: the engine, and other packages; events have versions of their own. Reads the source files, so ask at
    start, while they are those that were imported. Raises NoSourceError.
    """
    classes = (*type(projection).__mro__, projection.row)
    waiting = {one.__module__ for one in classes if _top_level(one.__module__) not in sys.stdlib_module_names}
    seen = {FOUNDATION}
    forms = []
    while waiting := waiting - seen:
        name = waiting.pop()
        seen.add(name)
        tree = _tree(sys.modules[name])
        forms.append(canonical(tree))
        waiting |= {one for one in _imported(tree, sys.modules[name]) if _top_level(one) == _top_level(name)}
    return sha256("\n".join(sorted(forms)).encode()).hexdigest()[:16]


def _top_level(module_name: str) -> str:
    return module_name.partition(".")[0]


def _tree(module: ModuleType) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(module))
    except (OSError, TypeError) as error:
        raise NoSourceError(
            f"there is no source of {module.__name__}, by which a change to its projection could be noticed: "
            "install TickView with its .py files"
        ) from error


def _imported(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    """The modules that the top level of ``module`` imports, or imports something from."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            names = [alias.name for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            origin = _absolute(statement, module)
            names = [origin, *(f"{origin}.{alias.name}" for alias in statement.names)]
        else:
            continue
        yield from (name for name in names if name in sys.modules)


def _absolute(statement: ast.ImportFrom, module: ModuleType) -> str:
    package = (module.__package__ or "").split(".")
    above = package[: len(package) + 1 - statement.level] if statement.level else []
    return ".".join([*above, *filter(None, [statement.module])])


def canonical(node: object) -> str:
    """A syntax tree as text that depends on nothing but what the code does.

    Fields without a value are left out, since newer Pythons have more of them; so are statements without effect.
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
            # Python 3.12 ends a format with an empty text.
            yield name, [part for part in value if not (isinstance(part, ast.Constant) and part.value == "")]
        # ``kind`` is the u of u"…"; ``ctx`` follows from where an expression stands.
        elif value is not None and value != [] and name not in ("kind", "ctx", "type_comment"):
            yield name, value


def _is_without_effect(node: object) -> bool:
    """Docstrings and other bare constants, ``pass``; imports, whose order means nothing."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass | ast.Import | ast.ImportFrom)
