"""PostgreSQL for every part of TickView that uses it: connections, the schema and its migrations, SQL statements."""
