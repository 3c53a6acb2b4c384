"""``/api/backtests``: backtest runs with their progress and results."""
