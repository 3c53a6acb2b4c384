"""The catalogue of symbols and universes: in-memory replicas, filters that resolve to symbols, and its endpoints."""
