-- SQL statements of the read model pattern_history (docs/as-of.md).

-- name: select_archived
-- Find out up to which event a log is archived.
-- Parameters: name and version of the archive's segments, log.
-- Result: one row (position, recorded_at); no row if the log is not archived.
SELECT position, recorded_at FROM tickview.segments WHERE name = %s AND version = %s AND log = %s;

-- name: insert_pattern_events
-- Store which detection each event is about.
-- Parameters: version, log, and for each event detections, positions and moments (epoch seconds).
INSERT INTO tickview.pattern_events (version, detection, log, position, recorded_at)
SELECT %(version)s, detection, %(log)s, position, to_timestamp(recorded_at)
FROM unnest(%(detections)s::text[], %(positions)s::bigint[], %(moments)s::double precision[])
    AS event (detection, position, recorded_at)
ON CONFLICT DO NOTHING;

-- name: select_pattern_events
-- Find all events about some detections.
-- Parameters: version, detections, log.
-- Result: one row (detection, position, recorded_at) per event.
SELECT detection, position, recorded_at FROM tickview.pattern_events
WHERE version = %s AND detection = ANY(%s) AND log = %s;

-- name: copy_events_at
-- Read the events at some positions. The range of time limits the search to the partitions of its months.
-- Parameters: log, positions, earliest and latest time of recording.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND position = ANY(%s) AND recorded_at BETWEEN %s AND %s ORDER BY position
) TO STDOUT (FORMAT binary);

-- name: delete_states
-- Remove states that later events have changed.
-- Parameters: version, and for each state timelines, symbols, ids and starts of the interval.
DELETE FROM tickview.pattern_history AS history
USING unnest(%(timelines)s::text[], %(symbols)s::text[], %(ids)s::text[], %(starts)s::timestamptz[])
    AS obsolete (timeline, symbol, id, start)
WHERE history.version = %(version)s AND history.timeline = obsolete.timeline
    AND history.symbol = obsolete.symbol AND history.id = obsolete.id AND lower(history.span) = obsolete.start;

-- name: copy_states_in
-- Store states. The rows are those of the function history_row.
COPY tickview.pattern_history (
    version, timeline, position, span, confidence, detected_at, relative_strength, relative_volume, rsi,
    symbol, pattern, tier, id, log, document
) FROM STDIN;

-- name: select_live_version
-- Find out which version of a read model is live.
-- Parameters: name of the read model.
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
-- Parameters: name of the read model.
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
-- Parameters: name of the read model, version.
DELETE FROM tickview.segments WHERE name = %s AND version = %s;
