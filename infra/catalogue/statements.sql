-- SQL statements that read the catalogue from the platform's database.

-- name: limit_statement_time
-- Limit the time of each statement of this transaction.
-- Literals: milliseconds.
SET LOCAL statement_timeout = {milliseconds};

-- name: has_table
-- Find out whether a table or view exists.
-- Parameters: the quoted name of the table.
-- Result: one row with a boolean.
SELECT to_regclass(%s) IS NOT NULL;

-- name: select_readable_tables
-- List the tables and views that the user may read. Tables whose names differ only in capitals come first: one of them
-- is probably the right one.
-- Parameters: name of the table without schema, limit.
-- Result: one row (name as an array of schema and table, number of all readable tables) per table.
SELECT CASE WHEN pg_table_is_visible(c.oid) THEN ARRAY[relname] ELSE ARRAY[nspname, relname] END::text[],
    count(*) OVER ()
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT relispartition
    AND nspname <> 'information_schema' AND nspname !~ '^pg_'
    AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT')
ORDER BY lower(relname) <> lower(%s), nspname, relname LIMIT %s;

-- name: select_no_rows
-- Find out which columns a table has, without reading a row.
-- Identifiers: table.
SELECT * FROM {table} LIMIT 0;

-- name: select_rows
-- Read the rows of a table, ordered by the column that identifies a row.
-- Identifiers: columns, table, key; literals: limit.
SELECT {columns} FROM {table} ORDER BY {key} LIMIT {limit};

-- name: select_groups
-- Read the groups of the platform with their members, heaviest first. Of the same group in several environments, the
-- default one counts.
-- Parameters: limit.
-- Result: one row (id, name, description, category, symbols) per group.
SELECT DISTINCT ON (g.name) g.id, g.name, g.description, lower(g.type) AS category,
    ARRAY(
        SELECT m.symbol FROM group_memberships m WHERE m.group_id = g.id ORDER BY m.weight DESC NULLS LAST, m.id
    ) AS symbols
FROM definition_groups g ORDER BY g.name, g.environment <> 'DEFAULT', g.id LIMIT %s;

-- name: select_cache_entries
-- Read the cache entries that are universes or themes. Of the same entry in several environments, the default one
-- counts.
-- Parameters: limit.
-- Result: one row (id, category, name, key, value) per entry.
SELECT DISTINCT ON (type, name, key) id, lower(type) AS category, name, key, value
FROM cache_entries WHERE type ~* '(universes?|themes?)$'
ORDER BY type, name, key, environment IS DISTINCT FROM 'DEFAULT', id LIMIT %s;
