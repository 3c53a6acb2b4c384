"""``/api/audit``: the event history and the last verification."""
