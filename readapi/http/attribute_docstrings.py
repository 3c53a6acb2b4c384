"""The docstrings of the attributes of a class: the string literals below their annotations.

Pydantic's option ``use_attribute_docstrings`` reads them when a class is defined, which took a fifth of the start of an
API process. They are only needed where the documentation of the attributes is generated.
"""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise


def attribute_docstrings(owner: type) -> dict[str, str]:
    """Return the docstrings of the attributes of a class and its base classes, by the names of the attributes.

    Args:
        owner: A class. Attributes of a nested class, and of a class that no source file defines, have no docstrings.
    """
    docstrings: dict[str, str] = {}
    for each in reversed(owner.__mro__):
        # The docstring of a base class does not describe an attribute that the class defines anew.
        for name in inspect.get_annotations(each):
            docstrings.pop(name, None)
        docstrings |= _docstrings_of_module(each.__module__).get(each.__qualname__, {})
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
