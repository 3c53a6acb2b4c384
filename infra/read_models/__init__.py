"""The read models in Redis: their keys, their store and the queries on their indexes."""
