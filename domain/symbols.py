"""What a ticker symbol looks like."""

import re

SYMBOL_PATTERN = "^[A-Za-z0-9^][A-Za-z0-9.:\\-^=/_]{0,31}$"
"""Case means nothing: a symbol is kept in capitals."""

SYMBOL_RULE = "should be a symbol: 1 to 32 letters, digits or . : - ^ = / _"

_SYMBOL = re.compile(SYMBOL_PATTERN.removesuffix("$") + r"\Z")


def is_symbol(text: str) -> bool:
    """Whether it could be a symbol; whether there is one is another matter."""
    return _SYMBOL.match(text) is not None
