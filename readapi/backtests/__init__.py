"""``/api/backtests``: backtest runs with progress and results."""
