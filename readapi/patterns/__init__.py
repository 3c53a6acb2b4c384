"""``/api/patterns``: the scan, one pattern, statistics and the summary."""
