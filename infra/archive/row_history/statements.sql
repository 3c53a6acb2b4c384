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
-- Identifiers: history; recorded_index, valid_index and key_index (its indexes); events.
-- SQL: values (the definitions of the columns of values, each before a comma).
CREATE TABLE IF NOT EXISTS {history} (
    version integer NOT NULL,
    position bigint NOT NULL,
    recorded tstzrange,
    valid tstzrange,
    {values}
    key text COLLATE "C" NOT NULL,
    log text NOT NULL,
    document bytea NOT NULL,
    CHECK (recorded IS NOT NULL OR valid IS NOT NULL)
);
COMMENT ON TABLE {history} IS
    'The states of each row, each with the spans in which queries returned it. Timeline recorded: the state that TickView knew at a time. Timeline valid: the state that TickView knows now about a time. NULL: the state is not on this timeline';
CREATE INDEX IF NOT EXISTS {recorded_index} ON {history} USING gist (recorded);
CREATE INDEX IF NOT EXISTS {valid_index} ON {history} USING gist (valid);
CREATE INDEX IF NOT EXISTS {key_index} ON {history} (version, key, position);
CREATE TABLE IF NOT EXISTS {events} (
    version integer NOT NULL,
    unit text COLLATE "C" NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (version, unit, log, position)
);
COMMENT ON TABLE {events} IS 'The events of each unit: a group of rows, or a row that has no group';

-- name: drop_tables
-- Drop the tables of a history. It is folded again from the first event, and the present workers lose their leases.
-- Identifiers: history, events. Literal: name of the history.
DROP TABLE {history};
DROP TABLE IF EXISTS {events};
DELETE FROM tickview.segments WHERE name = {name};

-- name: add_column
-- Add a column of values to the table of a history that an earlier version has created.
-- Identifiers: history, column; SQL: type.
ALTER TABLE {history} ADD COLUMN {column} {type};

-- name: create_group_index
-- Create an index by which filters find the states with a value. Other sessions can read the table meanwhile.
-- Identifiers: index, history, column.
CREATE INDEX IF NOT EXISTS {index} ON {history} (version, {column});

-- name: use_indexes
-- Let PostgreSQL find rows by indexes, and in the order of an index, in this transaction. While a table has grown since it
-- was last analyzed, PostgreSQL would read the whole table or sort the whole log for each batch.
-- Result: one row, which is not used.
SELECT set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
    set_config('enable_sort', 'off', true);

-- name: select_archived
-- Find out up to which event a log is archived.
-- Parameters: name and version of the archive's segments, log.
-- Result: one row (position, recorded_at); no row if the log is not archived.
SELECT position, recorded_at FROM tickview.segments WHERE name = %s AND version = %s AND log = %s;

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
-- Read the events at some positions. The time of recording leads to the partition of the month. OFFSET keeps PostgreSQL
-- from a plan that reads all events between the first and the last one. The order by position lets it use the index of the
-- positions, instead of that of the times, while sorting is disabled (use_indexes).
-- Parameters: positions and times of recording of the events, log.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT event.* FROM unnest(%s::bigint[], %s::timestamptz[]) AS wanted (position, recorded_at)
    CROSS JOIN LATERAL (
        SELECT * FROM tickview.events AS archived
        WHERE archived.log = %s AND archived.recorded_at = wanted.recorded_at
            AND archived.position BETWEEN wanted.position AND wanted.position
        ORDER BY archived.position OFFSET 0
    ) AS event ORDER BY event.position
) TO STDOUT (FORMAT binary);

-- name: end_states
-- Give states another end. Nothing else of the states changes. A state is found by its key and its position. At most two
-- rows have both: one for each timeline. OFFSET keeps PostgreSQL from a plan that compares all rows with all states.
-- Identifiers: history. Parameters: version, and for each state keys, positions, and the end on the timelines recorded and
-- valid; NULL: the end on this timeline stays.
UPDATE {history} AS history SET
    recorded = CASE WHEN ended.recorded IS NULL OR history.recorded IS NULL THEN history.recorded
        ELSE tstzrange(lower(history.recorded), ended.recorded) END,
    valid = CASE WHEN ended.valid IS NULL OR history.valid IS NULL THEN history.valid
        ELSE tstzrange(lower(history.valid), ended.valid) END
FROM unnest(%(keys)b::text[], %(positions)b::bigint[], %(recorded)b::timestamptz[], %(valid)b::timestamptz[])
    AS ended (key, position, recorded, valid)
CROSS JOIN LATERAL (
    SELECT ctid FROM {history} AS stored
    WHERE stored.version = %(version)s AND stored.key = ended.key AND stored.position = ended.position OFFSET 0
) AS found
WHERE history.ctid = found.ctid;

-- name: remove_states
-- Remove states from timelines. A row is deleted if its state is on no other timeline. States are found as by end_states.
-- Identifiers: history. Parameters: version, and for each state keys, positions, and whether it is removed from the
-- timelines recorded and valid.
WITH remaining AS (
    SELECT found.ctid AS place, CASE WHEN NOT removed.recorded THEN found.recorded END AS recorded,
        CASE WHEN NOT removed.valid THEN found.valid END AS valid
    FROM unnest(%(keys)b::text[], %(positions)b::bigint[], %(recorded)b::boolean[], %(valid)b::boolean[])
        AS removed (key, position, recorded, valid)
    CROSS JOIN LATERAL (
        SELECT ctid, recorded, valid FROM {history} AS stored
        WHERE stored.version = %(version)s AND stored.key = removed.key AND stored.position = removed.position OFFSET 0
    ) AS found
), deleted AS (
    DELETE FROM {history} AS history USING remaining
    WHERE history.ctid = remaining.place AND remaining.recorded IS NULL AND remaining.valid IS NULL
)
UPDATE {history} AS history SET recorded = remaining.recorded, valid = remaining.valid
FROM remaining
WHERE history.ctid = remaining.place AND (remaining.recorded IS NOT NULL OR remaining.valid IS NOT NULL);

-- name: copy_states_in
-- Store states. The rows are sent in PostgreSQL's binary format (infra/archive/row_history/state_rows.py).
-- Identifiers: history; SQL: values (the columns of values, each before a comma).
COPY {history} (version, recorded, valid, position, {values}key, log, document) FROM STDIN (FORMAT binary);

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

-- name: delete_version_events
-- Remove all references of a version to events.
-- Identifiers: events. Parameters: version.
DELETE FROM {events} WHERE version = %s;

-- name: delete_version_states
-- Remove all states of a version.
-- Identifiers: history. Parameters: version.
-- Result: one row (number of the states; a state that is on both timelines counts twice).
WITH removed AS (DELETE FROM {history} WHERE version = %s RETURNING recorded, valid)
SELECT count(recorded) + count(valid) FROM removed;
