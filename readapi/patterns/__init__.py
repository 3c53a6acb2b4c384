"""The resources of ``/api/patterns``: the scan, single patterns, statistics and the summary."""
