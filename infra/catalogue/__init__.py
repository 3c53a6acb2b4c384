"""The catalogue: reads symbols and universes where the platform keeps them, and records what has changed."""
