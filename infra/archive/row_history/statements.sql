-- SQL statements of the histories of read models (docs/as-of.md).

-- name: select_parts
-- Read the names of the columns and of the indexes of a table.
-- Parameters: schema, name of the table.
-- Result: one row (name) per column and per index; no row if the table does not exist.
WITH present AS (SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relname = %s)
SELECT attname FROM pg_attribute JOIN present ON attrelid = oid WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT relname FROM pg_index JOIN present ON indrelid = present.oid JOIN pg_class ON pg_class.oid = indexrelid;

-- name: create_tables
-- Create the tables of a history. A unit is a group of rows whose events are folded together, or a row that has no group.
-- The values are before the document, because PostgreSQL takes longer to read what is behind it.
-- Identifiers: history, recorded and valid (its partitions), span_index and key_index (its indexes), events.
-- SQL: values (the definitions of the columns of values, each before a comma).
CREATE TABLE IF NOT EXISTS {history} (
    version integer NOT NULL,
    timeline text NOT NULL,
    position bigint NOT NULL,
    span tstzrange NOT NULL,
    {values}
    key text COLLATE "C" NOT NULL,
    log text NOT NULL,
    document bytea NOT NULL
) PARTITION BY LIST (timeline);
COMMENT ON TABLE {history} IS
    'The states of each row, each with the span in which queries returned it. Timeline recorded: the state that TickView knew at a time. Timeline valid: the state that TickView knows now about a time';
CREATE TABLE IF NOT EXISTS {recorded} PARTITION OF {history} FOR VALUES IN ('recorded');
CREATE TABLE IF NOT EXISTS {valid} PARTITION OF {history} FOR VALUES IN ('valid');
CREATE INDEX IF NOT EXISTS {span_index} ON {history} USING gist (span);
CREATE INDEX IF NOT EXISTS {key_index} ON {history} (version, key);
CREATE TABLE IF NOT EXISTS {events} (
    version integer NOT NULL,
    unit text COLLATE "C" NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (version, unit, log, position)
);
COMMENT ON TABLE {events} IS 'The events of each unit: a group of rows, or a row that has no group';

-- name: add_column
-- Add a column of values to the table of a history that an earlier version has created.
-- Identifiers: history, column; SQL: type.
ALTER TABLE {history} ADD COLUMN {column} {type};

-- name: create_group_index
-- Create an index by which filters find the states with a value. Other sessions can read the table meanwhile.
-- Identifiers: index, history, column.
CREATE INDEX IF NOT EXISTS {index} ON {history} (version, {column});

-- name: select_archived
-- Find out up to which event a log is archived.
-- Parameters: name and version of the archive's segments, log.
-- Result: one row (position, recorded_at); no row if the log is not archived.
SELECT position, recorded_at FROM tickview.segments WHERE name = %s AND version = %s AND log = %s;

-- name: use_indexes
-- Let PostgreSQL find the rows of a batch by indexes in this transaction. While a table has grown since it was last
-- analyzed, PostgreSQL would read all rows of the version for each batch.
-- Result: one row, which is not used.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true);

-- name: insert_unit_events
-- Store which units each event is about. Arrays in binary format take psycopg a quarter of the time.
-- Identifiers: events. Parameters: version, log, and for each event units, positions and moments (epoch seconds).
INSERT INTO {events} (version, unit, log, position, recorded_at)
SELECT %(version)s, unit, %(log)s, position, to_timestamp(recorded_at)
FROM unnest(%(units)b::text[], %(positions)b::bigint[], %(moments)b::double precision[])
    AS event (unit, position, recorded_at)
ON CONFLICT DO NOTHING;

-- name: select_unit_events
-- Find the events about some units up to a position.
-- Identifiers: events. Parameters: version, units, log, upto (included).
-- Result: one row (unit, position, recorded_at) per event.
SELECT unit, position, recorded_at FROM {events}
WHERE version = %s AND unit = ANY(%b) AND log = %s AND position <= %s;

-- name: copy_events_at
-- Read the events at some positions. The range of time limits the search to the partitions of its months.
-- Parameters: log, positions, earliest and latest time of recording.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND position = ANY(%s) AND recorded_at BETWEEN %s AND %s ORDER BY position
) TO STDOUT (FORMAT binary);

-- name: end_states
-- Give states the end that a later event has brought forward or put off. Nothing else of the states changes.
-- Identifiers: history. Parameters: version, and for each state timelines, keys, starts and ends of the interval; an end
-- may be NULL.
UPDATE {history} AS history SET span = tstzrange(ended.start, ended.until)
FROM unnest(%(timelines)b::text[], %(keys)b::text[], %(starts)b::timestamptz[], %(ends)b::timestamptz[])
    AS ended (timeline, key, start, until)
WHERE history.version = %(version)s AND history.timeline = ended.timeline AND history.key = ended.key
    AND lower(history.span) = ended.start;

-- name: delete_states
-- Remove states that later events have changed.
-- Identifiers: history. Parameters: version, and for each state timelines, keys and starts of the interval.
DELETE FROM {history} AS history
USING unnest(%(timelines)b::text[], %(keys)b::text[], %(starts)b::timestamptz[]) AS obsolete (timeline, key, start)
WHERE history.version = %(version)s AND history.timeline = obsolete.timeline AND history.key = obsolete.key
    AND lower(history.span) = obsolete.start;

-- name: copy_states_in
-- Store states. The rows are those of HistoryTables.history_rows.
-- Identifiers: history; SQL: values (the columns of values, each behind a comma).
COPY {history} (version, timeline, position, span, key, log, document{values}) FROM STDIN;

-- name: select_live_version
-- Find out which version of a history is live.
-- Parameters: name of the history.
-- Result: one row (version); no row if no version is live.
SELECT version FROM tickview.live_versions WHERE name = %s;

-- name: switch_live_version
-- Make a version live if no version is live, or if it is higher than the live version and has folded every log as far.
-- If the live version has no checkpoint for a log, the archive's checkpoint counts.
-- Parameters: name, version, archive (name of the archive's segments), logs (pattern of LIKE).
INSERT INTO tickview.live_versions AS live (name, version) VALUES (%(name)s, %(version)s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version
WHERE live.version < excluded.version AND NOT EXISTS (
    SELECT FROM tickview.logs
    LEFT JOIN tickview.segments AS archived ON (archived.name, archived.log) = (%(archive)s, logs.log)
    LEFT JOIN tickview.segments AS previous
        ON (previous.name, previous.version, previous.log) = (%(name)s, live.version, logs.log)
    LEFT JOIN tickview.segments AS following
        ON (following.name, following.version, following.log) = (%(name)s, excluded.version, logs.log)
    WHERE logs.log LIKE %(logs)s
        AND coalesce(following.position, 0) < coalesce(previous.position, archived.position, 0)
);

-- name: select_previous_version
-- Find a version below the live one that no worker folds any more.
-- Parameters: name of the history.
-- Result: one row (version); no row if there is none.
SELECT version FROM tickview.segments
WHERE name = %(name)s AND version < (SELECT version FROM tickview.live_versions WHERE name = %(name)s)
GROUP BY version HAVING bool_and(leased_until <= now()) LIMIT 1;

-- name: delete_version_rows
-- Remove some rows of a version from a table.
-- Identifiers: table. Parameters: version, limit.
DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE version = %s LIMIT %s));

-- name: delete_version_segments
-- Remove the checkpoints and leases of a version.
-- Parameters: name of the history, version.
DELETE FROM tickview.segments WHERE name = %s AND version = %s;

-- name: restart_segments
-- Let a version of a history be folded again from the first event. The present workers lose their leases (the fence).
-- Parameters: name of the history, version.
UPDATE tickview.segments
SET epoch = epoch + 1, position = 0, recorded_at = NULL, leased_until = '-infinity', error = NULL
WHERE name = %s AND version = %s;

-- name: make_version_live
-- Make a version live, whatever is live now.
-- Parameters: name of the history, version.
INSERT INTO tickview.live_versions (name, version) VALUES (%s, %s)
ON CONFLICT (name) DO UPDATE SET version = excluded.version;

-- name: delete_version
-- Remove all rows of a version from a table.
-- Identifiers: table. Parameters: version.
DELETE FROM {table} WHERE version = %s;
