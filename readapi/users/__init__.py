"""``/api/users``: the watchlists and filter presets of the client's user."""
