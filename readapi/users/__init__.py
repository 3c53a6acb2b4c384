"""``/api/users``: watchlists and filter presets."""
