"""The views of ``patterns``: the compact form for the scan of the UI, and the full form with all values."""

from functools import lru_cache
from math import floor, log10
from typing import Any

from projections.views import Converted, Elapsed, Remaining, View

SHORT_WORDS = {
    "ascending": "Asc",
    "bearish": "Bear",
    "bottom": "Bot",
    "breakdown": "BD",
    "breakout": "BO",
    "bullish": "Bull",
    "consolidation": "Cons",
    "continuation": "Cont",
    "descending": "Desc",
    "engulfing": "Engulf",
    "momentum": "Mom",
    "rectangle": "Rect",
    "relative": "Rel",
    "resistance": "Res",
    "reversal": "Rev",
    "support": "Sup",
    "symmetrical": "Sym",
    "triangle": "Tri",
    "trendline": "Trend",
    "volume": "Vol",
}
"""Word in lower case -> short form in names of patterns. Other words are not shortened."""


@lru_cache(maxsize=1_000)
def short_name(pattern: str) -> str:
    """Short name of the pattern type: ``WeeklyBO`` for ``Weekly_Breakout``."""
    words = pattern.replace("_", " ").replace("-", " ").split()
    return "".join(SHORT_WORDS.get(word.lower(), word[:1].upper() + word[1:]) for word in words) or pattern


def decimal(value: float, decimals: int, sign: str = "") -> str:
    """Value with these decimals, and with an exponent from a billion on: a number can have 309 digits."""
    return f"{value:{sign}.{decimals}{'f' if abs(value) < 1e9 else 'e'}}"


def two_decimals(value: float) -> float:
    """Value with 2 decimals."""
    return round(value, 2)


def factor(value: float) -> str:
    """Factor with 1 decimal: ``1.4x``."""
    return f"{decimal(value, 1)}x"


def dollars(price: float) -> str:
    """Price in dollars: ``$150.25``. A price below a cent has four significant digits: ``$0.001234``."""
    amount = abs(price)
    # 0.01 has no more decimals than other prices. Decimals end where a float has no more of them.
    decimals = 2 if amount >= 0.01 or amount < 1e-300 else 3 - floor(log10(amount))
    return f"{'-' if price < 0 else ''}${decimal(amount, decimals)}"


def signed_percent(change: float) -> str:
    """Change in per cent with its sign: ``+2.3%``."""
    return f"{decimal(change, 1, '+')}%"


COMPACT = View(
    id="id",
    symbol="symbol",
    pattern=Converted("pattern", short_name),
    conf=Converted("confidence", two_decimals),
    rs=Converted("relative_strength", factor),
    vol=Converted("relative_volume", factor),
    price=Converted("current_price", dollars),
    chg=Converted("price_change", signed_percent),
    source="tier",
    time=Elapsed("detected_at"),
    exp=Remaining("expires_at"),
)
"""The members that the UI shows. The names are those of the UI."""

RENAMED = {"pattern": "pattern_type", "source": "producer"}
"""Column -> its member in the full form, where a member of the compact form has the name of the column."""


def full_view(row: type[Any]) -> View:
    """Return the view of the compact members, all columns of the row and the provenance."""
    shown = [name for name, member in COMPACT.members.items() if name == member]
    return COMPACT.extended(**View.of_columns(row, without=shown, names=RENAMED).members)
