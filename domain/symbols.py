"""The syntax of ticker symbols in requests and in users' lists."""

import re

SYMBOL_PATTERN = "^[A-Za-z0-9^][A-Za-z0-9.:\\-^=/_]{0,31}$"
"""The regular expression of a symbol (ECMA-262, for OpenAPI). Symbols ignore case and are stored in capitals."""

SYMBOL_RULE = "should be a symbol: 1 to 32 letters, digits or . : - ^ = / _"
"""The requirement that a text breaks if it is not a symbol. It follows the name of a field."""

_SYMBOL = re.compile(SYMBOL_PATTERN.removesuffix("$") + r"\Z")


def is_symbol(text: str) -> bool:
    """Return whether a text has the syntax of a symbol. The symbol need not be in the catalogue."""
    return _SYMBOL.match(text) is not None
