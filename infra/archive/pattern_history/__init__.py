"""The read model ``pattern_history`` in PostgreSQL: the states of each pattern with their validity intervals."""
