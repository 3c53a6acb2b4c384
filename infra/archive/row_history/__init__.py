"""The histories of read models in PostgreSQL: the states of each row with their validity intervals."""
