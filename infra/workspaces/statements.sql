-- SQL statements that read the lists of users from the platform's database.

-- name: has_table
-- Find out whether a table or view exists.
-- Parameters: the name of the table.
-- Result: one row with a boolean.
SELECT to_regclass(%s) IS NOT NULL;

-- name: select_watchlists
-- Read all watchlists, oldest first.
-- Result: one row (row_id, user, name, symbols, filters, is_default, created_at) per watchlist.
SELECT id AS row_id, user_id AS "user", name, symbols, filters, false AS is_default, created_at
FROM user_watchlists ORDER BY created_at, id;

-- name: select_presets
-- Read all filter presets, oldest first.
-- Result: one row (row_id, user, name, symbols, filters, is_default, created_at) per preset.
SELECT id AS row_id, user_id AS "user", name, NULL AS symbols, filters, coalesce(is_default, false) AS is_default,
    created_at
FROM user_filter_presets ORDER BY created_at, id;
