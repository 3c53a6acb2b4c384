"""Daily bars of five stocks from 2000 to 2013, from the package ``bokeh_sampledata`` (public domain)."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from bokeh_sampledata import stocks
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SMALLEST_SPLIT = 1.5
"""Lowest overnight growth of the adjustment factor that is a split. Smaller steps are dividends."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Daily bars of one ticker, oldest first. Prices are in dollars and volumes in shares, both as of the last bar."""

    dates: NDArray[np.datetime64]
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.close)

    def first(self, count: int) -> Self:
        """Return the oldest ``count`` bars."""
        return type(self)(*(getattr(self, field.name)[:count] for field in fields(self)))


def adjusted(bars: Bars, adjusted_close: FloatArray) -> Bars:
    """Adjust bars for splits and dividends, which would otherwise look like gaps and breakdowns.

    The last bar keeps its traded prices.

    Args:
        bars: The bars as they were traded.
        adjusted_close: The closes, adjusted for all later splits and dividends.
    """
    price_factor = adjusted_close / bars.close
    price_factor = price_factor / price_factor[-1]
    overnight = price_factor[1:] / price_factor[:-1]
    splits = np.append(np.where(overnight >= SMALLEST_SPLIT, overnight, 1.0), 1.0)
    later_splits = np.cumprod(splits[::-1])[::-1]
    return Bars(
        dates=bars.dates,
        open=bars.open * price_factor,
        high=bars.high * price_factor,
        low=bars.low * price_factor,
        close=bars.close * price_factor,
        volume=bars.volume * later_splits,
    )


def load() -> dict[str, Bars]:
    """Return the adjusted bars of every ticker."""
    tickers = {
        "AAPL": stocks.AAPL,
        "FB": stocks.FB,
        "GOOG": stocks.GOOG,
        "IBM": stocks.IBM,
        "MSFT": stocks.MSFT,
    }
    return {ticker: _read(table) for ticker, table in tickers.items()}


def _read(table: stocks.StockData) -> Bars:
    as_traded = Bars(
        dates=np.array(table["date"], dtype="datetime64[D]"),
        open=np.array(table["open"], dtype=np.float64),
        high=np.array(table["high"], dtype=np.float64),
        low=np.array(table["low"], dtype=np.float64),
        close=np.array(table["close"], dtype=np.float64),
        volume=np.array(table["volume"], dtype=np.float64),
    )
    return adjusted(as_traded, np.array(table["adj_close"], dtype=np.float64))
