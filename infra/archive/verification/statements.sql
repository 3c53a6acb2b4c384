-- SQL statements of the verification of the archive. The statements only read, except insert_verification.

-- name: begin_snapshot
-- Let this transaction read one state of the database. The statement must be the first of the transaction.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: disable_sort
-- Let PostgreSQL send rows in the order of an index as it reads them, instead of sorting a whole log first.
SET LOCAL enable_sort = off;

-- name: disable_jit
-- Do not compile queries: the compilation costs more than it saves.
SET LOCAL jit = off;

-- name: select_logs
-- Find the logs that the archive knows or has events of. The recursion jumps from log to log in the index.
-- Parameters: name and version of the archive's segments.
-- Result: one row (log) per log.
SELECT log FROM tickview.logs UNION SELECT log FROM tickview.segments WHERE name = %s AND version = %s
UNION (
    WITH RECURSIVE present AS (
        (SELECT log FROM tickview.events ORDER BY log LIMIT 1)
        UNION ALL
        SELECT (SELECT log FROM tickview.events WHERE log > present.log ORDER BY log LIMIT 1) FROM present
        WHERE present.log IS NOT NULL
    )
    SELECT log FROM present WHERE log IS NOT NULL
) ORDER BY log;

-- name: select_extent
-- Find out how far a log is archived, and which positions the archive has.
-- Parameters: name and version of the archive's segments, log.
-- Result: one row (checkpoint, hash of the last event, lowest position, highest position), each of which may be NULL.
SELECT
    (SELECT position FROM tickview.segments WHERE name = %(name)s AND version = %(version)s AND log = %(log)s),
    (SELECT hash FROM tickview.logs WHERE log = %(log)s),
    (SELECT position FROM tickview.events WHERE log = %(log)s ORDER BY position LIMIT 1),
    (SELECT position FROM tickview.events WHERE log = %(log)s ORDER BY position DESC LIMIT 1);

-- name: copy_rows_between
-- Read the events of a log in a range of positions.
-- Parameters: log, first position, last position.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events WHERE log = %s AND position >= %s AND position <= %s ORDER BY position
) TO STDOUT (FORMAT binary);

-- name: select_hash_at
-- Find the hash at a position, in the events or in the anchors.
-- Parameters: log, position.
-- Result: one row (hash); no row if the archive does not have it.
SELECT hash FROM tickview.events WHERE log = %(log)s AND position = %(position)s
UNION ALL SELECT hash FROM tickview.anchors WHERE log = %(log)s AND position = %(position)s LIMIT 1;

-- name: select_anchors
-- Read the anchors of a log before a position.
-- Parameters: log, position.
-- Result: one row (position, hash, month) per anchor.
SELECT position, hash, month FROM tickview.anchors WHERE log = %s AND position < %s ORDER BY position;

-- name: select_altered_anchor
-- Find the first anchor whose hash differs from that of its event.
-- Parameters: log, first position, last position.
-- Result: one row (position); no row if all anchors agree with the events.
SELECT position FROM tickview.anchors JOIN tickview.events USING (log, position)
WHERE log = %s AND position BETWEEN %s AND %s AND anchors.hash <> events.hash ORDER BY position LIMIT 1;

-- name: select_heads
-- Read the end of the chain of each log.
-- Parameters: name and version of the archive's segments.
-- Result: one row (log, position, hash stored for the log, hash of the event, recorded_at) per log. The hash of the event
-- is NULL if the archive does not have the event.
SELECT segments.log, segments.position, logs.hash, events.hash, coalesce(events.recorded_at, segments.recorded_at)
FROM tickview.segments JOIN tickview.logs USING (log) LEFT JOIN tickview.events USING (log, position)
WHERE segments.name = %s AND segments.version = %s AND segments.position > 0 ORDER BY segments.log;

-- name: select_beginning
-- Find out when the first event of a log was recorded. If it was detached with its month, the beginning of the month.
-- Parameters: log.
-- Result: one row (time), which is NULL if the log has no events.
SELECT coalesce(
    (
        SELECT min(month)::timestamp AT TIME ZONE 'UTC' FROM tickview.anchors WHERE log = %(log)s AND position + 1 < ALL (
            SELECT position FROM tickview.events WHERE log = %(log)s ORDER BY position LIMIT 1
        )
    ),
    (SELECT recorded_at FROM tickview.events WHERE log = %(log)s ORDER BY position LIMIT 1)
);

-- name: select_history_checkpoints
-- Read how far a version of a history is folded, and how far its logs are archived.
-- Parameters: name of the history, version, name and version of the archive's segments.
-- Result: one row (log, position, archived position, lowest archived position) per log. The last two may be NULL.
SELECT folded.log, folded.position, archived.position,
    (SELECT position FROM tickview.events WHERE log = folded.log ORDER BY position LIMIT 1)
FROM tickview.segments AS folded
LEFT JOIN tickview.segments AS archived ON (archived.name, archived.version, archived.log) = (%s, %s, folded.log)
WHERE folded.name = %s AND folded.version = %s ORDER BY folded.log;

-- name: declare_references
-- Read which units each event is about, in the order of the positions. Times are in microseconds since the epoch, and
-- NULL if they are infinite.
-- Identifiers: events. Parameters: version, log.
-- Result: one row (position, unit, recorded_at) per event and unit.
SELECT position, unit,
    CASE WHEN isfinite(recorded_at) THEN (extract(epoch FROM recorded_at) * 1000000)::bigint END
FROM {events} WHERE version = %s AND log = %s ORDER BY position, unit;

-- name: select_units
-- Read the next units of a history on a log.
-- Identifiers: events. Parameters: version, log, after (a unit, or NULL for the first units), limit.
-- Result: one row (unit) per unit, in order.
SELECT unit FROM {events}
WHERE version = %(version)s AND log = %(log)s AND (%(after)s::text IS NULL OR unit > %(after)s::text)
GROUP BY unit ORDER BY unit LIMIT %(limit)s;

-- name: select_keys
-- Read the next keys of the rows of a history on a log.
-- Identifiers: history. Parameters: version, log, after (a key, or NULL for the first keys), limit.
-- Result: one row (key) per key, in order.
SELECT key FROM {history}
WHERE version = %(version)s AND log = %(log)s AND (%(after)s::text IS NULL OR key > %(after)s::text)
GROUP BY key ORDER BY key LIMIT %(limit)s;

-- name: select_keys_between
-- Read the keys of the rows that the events at some positions should have produced.
-- Identifiers: history. Parameters: version, log, first and last position.
-- Result: one row (key) per key.
SELECT DISTINCT key FROM {history} WHERE version = %s AND log = %s AND position BETWEEN %s AND %s;

-- name: select_keys_at
-- Read the keys of rows that a query as of a moment finds.
-- Identifiers: history. Parameters: moment (epoch seconds), version, log, limit.
-- Result: one row (key) per row.
SELECT key FROM {history}
WHERE (recorded @> to_timestamp(%(moment)s) OR valid @> to_timestamp(%(moment)s)) AND version = %(version)s
    AND log = %(log)s LIMIT %(limit)s;

-- name: count_states
-- Count the states of a history on a log. A state that is on both timelines counts twice.
-- Identifiers: history. Parameters: version, log.
-- Result: one row (number).
SELECT count(recorded) + count(valid) FROM {history} WHERE version = %s AND log = %s;

-- name: select_states
-- Read all states of a history under some keys. Times are in microseconds since the epoch, and NULL if they are infinite.
-- Identifiers: history; SQL: values (the columns of values, each behind a comma). Parameters: version, log, keys.
-- Result: one row (key, timeline, start, position, end, whether the interval is well formed, document, values) per state.
SELECT key, timeline,
    CASE WHEN isfinite(lower(span)) THEN (extract(epoch FROM lower(span)) * 1000000)::bigint END, position,
    CASE WHEN isfinite(upper(span)) THEN (extract(epoch FROM upper(span)) * 1000000)::bigint END,
    lower_inc(span) AND NOT upper_inc(span) AND (upper_inf(span) OR isfinite(upper(span))), document{values}
FROM {history} CROSS JOIN LATERAL (VALUES ('recorded', recorded), ('valid', valid)) AS state (timeline, span)
WHERE version = %s AND log = %s AND key = ANY(%s::text[]) AND span IS NOT NULL;

-- name: select_foreign_state
-- Find a row of a version of a history on a log that the version does not fold.
-- Identifiers: history. Parameters: version, logs that it folds.
-- Result: one row (key, timeline, log); no row if there is none.
SELECT key, CASE WHEN recorded IS NULL THEN 'valid' ELSE 'recorded' END, log FROM {history}
WHERE version = %s AND NOT log = ANY(%s::text[])
ORDER BY log, key LIMIT 1;

-- name: insert_verification
-- Record the result of a verification of the whole archive.
-- Parameters: start and end (epoch seconds), number of events, result (JSON).
INSERT INTO tickview.verifications (started_at, finished_at, events, result)
VALUES (to_timestamp(%s), to_timestamp(%s), %s, %s);

-- name: select_last_verification
-- Read the result of the last verification of the whole archive.
-- Result: one row (start, end, number of events, result), times in epoch seconds; no row before the first verification.
SELECT extract(epoch FROM started_at)::float8, extract(epoch FROM finished_at)::float8, events, result
FROM tickview.verifications ORDER BY id DESC LIMIT 1;

-- name: is_verification_due
-- Find out whether no verification began within a number of seconds.
-- Parameters: seconds.
-- Result: one row with a boolean.
SELECT NOT EXISTS (
    SELECT FROM tickview.verifications WHERE started_at > now() - %s * interval '1 second'
);

-- name: try_verification_lock
-- Try to get the lock under which one process verifies. The lock ends with the transaction, which may idle for long.
-- Parameters: number of the advisory lock.
-- Result: one row with a boolean.
SELECT pg_try_advisory_xact_lock(%s) FROM set_config('idle_in_transaction_session_timeout', '0', true);
