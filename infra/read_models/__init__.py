"""The read models in Redis: their keys, their store, their builds, and the queries on their indexes."""
