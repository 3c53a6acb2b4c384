"""The demo producer: a process that replays real daily bars and announces patterns and backtests."""
