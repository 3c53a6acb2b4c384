"""The docstrings of the fields of a model: the string literals below their annotations.

Pydantic's option ``use_attribute_docstrings`` reads them when a class is defined, which took a fifth of the start of an
API process. They are only needed where the documentation of the fields is generated.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings of the fields of a model, by the names of the fields.

    A field that a class defines anew does not have the docstring of the base class.

    Args:
        model: A model. The fields of a nested class, and of a class that no source file defines, have no docstrings.
    """
    docstrings: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if defined := inspect.get_annotations(each).keys() & model.model_fields.keys():
            own = _docstrings_of_module(each.__module__).get(each.__qualname__, {})
            inherited = {name: text for name, text in docstrings.items() if name not in defined}
            docstrings = inherited | {name: text for name, text in own.items() if name in defined}
    return docstrings


@cache
def _docstrings_of_module(name: str) -> Mapping[str, Mapping[str, str]]:
    """Return the docstrings of all classes of a module: name of the class -> name of the attribute -> docstring."""
    try:
        module = ast.parse(inspect.getsource(sys.modules[name]))
    except (OSError, TypeError):
        return {}
    return {node.name: dict(_docstrings_of_class(node)) for node in module.body if isinstance(node, ast.ClassDef)}


def _docstrings_of_class(definition: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for attribute, text in pairwise(definition.body):
        match attribute, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                yield name, inspect.cleandoc(docstring)
