"""The read model ``pattern_history`` in PostgreSQL: each state of each pattern with its validity interval."""
