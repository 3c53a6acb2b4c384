-- SQL statements of queries about the past.

-- name: select_folded_positions
-- Find out up to which event of each log the live version of a history is folded.
-- Parameters: name of the history, logs (pattern of LIKE).
-- Result: one row (log, position) per log.
SELECT logs.log, coalesce(segment.position, 0)
FROM tickview.logs
LEFT JOIN tickview.segments AS segment ON segment.name = %(name)s AND segment.log = logs.log
    AND segment.version = (SELECT version FROM tickview.live_versions WHERE name = %(name)s)
WHERE logs.log LIKE %(logs)s;

-- name: page
-- Read a page of the rows as of a moment. The statement is one snapshot: the live version, the folded positions, the exact
-- total and the page. Only the rows of the page are read with their documents.
-- Identifiers: table, span (the column of the timeline).
-- SQL: value (the expression to sort by), filters (conditions that begin with AND), order (ASC or DESC), behind (the
-- comparison that is true for the rows behind the last row of the previous page: > or <).
-- Parameters: name, logs and moment; those of the filters; after and key (value and key of the last row of the previous
-- page, or NULL); limit; offset.
-- Result: one row (live version, folded positions as JSON, total, value, log, key, document) per row of the page. If the
-- page is empty, one row without value, log, key and document.
WITH live AS (
    SELECT (SELECT version FROM tickview.live_versions WHERE name = %(name)s) AS version
), matches AS MATERIALIZED (
    SELECT key, {value} AS value FROM {table}
    WHERE version = (SELECT version FROM live) AND {span} @> %(moment)s {filters}
), page AS (
    SELECT * FROM matches WHERE %(key)s::text IS NULL OR (value, key) {behind} (%(after)s, %(key)s::text)
    ORDER BY value {order}, key {order} LIMIT %(limit)s OFFSET %(offset)s
), folded AS (
    SELECT logs.log, coalesce(segment.position, 0) AS position,
        coalesce(extract(epoch FROM segment.recorded_at)::float8, 0) AS recorded_at
    FROM tickview.logs
    LEFT JOIN tickview.segments AS segment ON segment.name = %(name)s AND segment.log = logs.log
        AND segment.version = (SELECT version FROM live)
    WHERE logs.log LIKE %(logs)s
)
SELECT live.version,
    (SELECT json_agg(json_build_array(log, position, recorded_at)) FROM folded),
    (SELECT count(*) FROM matches), page.value, history.log, history.key, history.document
FROM live LEFT JOIN (
    page JOIN {table} AS history ON history.version = (SELECT version FROM live) AND history.key = page.key
        AND history.{span} @> %(moment)s
) ON true
ORDER BY page.value {order}, page.key {order};
