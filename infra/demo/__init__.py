"""The demo producer: replays real daily bars and announces the patterns on them and their backtests."""
