"""The syntax of ticker symbols in messages, in requests and in users' lists."""

MAX_SYMBOL_LENGTH = 32
"""Highest number of characters in a symbol."""

SYMBOL_PATTERN = f"^[^\\s\\x00-\\x1f\\x7f-\\x9f\\ufffd]{{1,{MAX_SYMBOL_LENGTH}}}$"
"""The regular expression of a symbol (ECMA-262, for OpenAPI). It also matches some unprintable characters."""

SYMBOL_RULE = f"should be a symbol: 1 to {MAX_SYMBOL_LENGTH} printable characters without white space"
"""The requirement that a text breaks if it is not a symbol. It follows the name of a field."""


def is_symbol(text: str) -> bool:
    """Return whether a text has the syntax of a symbol: ``AAPL``, ``BRK.B``, ``^GSPC``, ``/ES``, ``TpC``.

    The case of letters matters: ``TpC`` is a preferred share, and ``TPC`` is another company. The symbol need not be in
    the catalogue.
    """
    # The blank is the only white space that counts as printable.
    return 0 < len(text) <= MAX_SYMBOL_LENGTH and text.isprintable() and " " not in text


def fold_symbol(symbol: str) -> str:
    """Return the form of a symbol that queries compare. Symbols that differ only in case have the same form."""
    return symbol.upper()
