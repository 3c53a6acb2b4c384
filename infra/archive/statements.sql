-- SQL statements of the archive: leases and checkpoints, archiving, reading, opening a log.
-- The tables are described in infra/postgres/migrations.

-- name: limit_waiting
-- Limit how long this transaction may stall and wait, and end the sessions of archivers that stall in a COPY.
-- Parameters: stalled and lock (settings such as '10s'), copy (seconds).
-- Result: one row, which is not used.
SELECT
    set_config('idle_in_transaction_session_timeout', %(stalled)s, true),
    set_config('lock_timeout', %(lock)s, true),
    (
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND query ~ '^\s*COPY "?tickview"?\.'
            AND state = 'active' AND wait_event = 'ClientRead' AND query_start < now() - %(copy)s * interval '1 second'
    );

-- name: acquire_lease
-- Acquire the lease on a segment or extend it. The epoch grows unless the owner extends a lease that has not ended.
-- Parameters: name, version and log of the segment, owner, seconds.
-- Result: one row (epoch, position); no row while another owner has the lease.
INSERT INTO tickview.segments AS segment (name, version, log, owner, epoch, leased_until)
VALUES (%(name)s, %(version)s, %(log)s, %(owner)s, 1, now() + %(seconds)s * interval '1 second')
ON CONFLICT (name, version, log) DO UPDATE SET
    epoch = segment.epoch + CASE
        WHEN segment.owner = excluded.owner AND segment.leased_until > now() THEN 0 ELSE 1 END,
    owner = excluded.owner,
    leased_until = excluded.leased_until
WHERE segment.owner = excluded.owner OR segment.leased_until <= now()
RETURNING epoch, position;

-- name: release_lease
-- End a lease at once. The transaction may stall only for a limited time, because it locks the segment.
-- Parameters: name, version, log, owner and epoch of the lease, stalled (a setting such as '10s').
UPDATE tickview.segments SET leased_until = '-infinity'
WHERE name = %(name)s AND version = %(version)s AND log = %(log)s AND owner = %(owner)s AND epoch = %(epoch)s
RETURNING set_config('idle_in_transaction_session_timeout', %(stalled)s, true);

-- name: advance_checkpoint
-- Move the checkpoint of a segment if the lease is still valid (the fence) and the checkpoint is where it should be.
-- Parameters: name, version, log, epoch and checkpoint of the lease; upto and recorded_at (epoch seconds) of the last
-- event of the batch; stalled (a setting such as '10s').
-- Result: one updated row; no row if the lease was lost.
UPDATE tickview.segments SET position = %(upto)s, recorded_at = to_timestamp(%(recorded_at)s), error = NULL
WHERE name = %(name)s AND version = %(version)s AND log = %(log)s AND epoch = %(epoch)s AND position = %(checkpoint)s
RETURNING set_config('idle_in_transaction_session_timeout', %(stalled)s, true);

-- name: record_error
-- Record the error that holds up a segment, or NULL when there is none any more. An equal error is not written again.
-- Parameters: name, version and log of the segment, error.
INSERT INTO tickview.segments AS segment (name, version, log, error) VALUES (%(name)s, %(version)s, %(log)s, %(error)s)
ON CONFLICT (name, version, log) DO UPDATE SET error = excluded.error
WHERE segment.error IS DISTINCT FROM excluded.error;

-- name: copy_events_in
-- Store events. The rows are sent in PostgreSQL's binary format (infra/archive/row_format.py).
COPY tickview.events FROM STDIN (FORMAT binary);

-- name: insert_log
-- Add a log that the archive does not know yet.
-- Parameters: name of the log, its id, its epoch, the hash before its first event.
-- Result: one inserted row; no row if the archive knows the log.
INSERT INTO tickview.logs VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING;

-- name: update_log_epoch
-- Store the present epoch of a log.
-- Parameters: epoch, name of the log.
-- Result: one row (id, hash of the last archived event).
UPDATE tickview.logs SET epoch = %s WHERE log = %s RETURNING id, hash;

-- name: update_log_hash
-- Store the hash of the last archived event of a log.
-- Parameters: hash, name of the log.
UPDATE tickview.logs SET hash = %s WHERE log = %s;

-- name: select_archived_hash
-- Find the hash at a position, in the events or in the anchors.
-- Parameters: log, position.
-- Result: one row (hash); no row if the archive does not have it.
SELECT hash FROM tickview.events WHERE log = %(log)s AND position = %(position)s
UNION ALL SELECT hash FROM tickview.anchors WHERE log = %(log)s AND position = %(position)s LIMIT 1;

-- name: insert_anchor
-- Store where the chain of a log enters a month, so that verification can start there.
-- Parameters: log, month, position and hash of the last event before the month.
INSERT INTO tickview.anchors (log, month, position, hash) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING;

-- name: has_table
-- Find out whether a table exists.
-- Parameters: the qualified name of the table.
-- Result: one row with a boolean.
SELECT to_regclass(%s) IS NOT NULL;

-- name: select_attached_partitions
-- Read the names of the months that are attached.
-- Result: one row (table name) per month.
SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = 'tickview.events'::regclass;

-- name: create_month_table
-- Create the table of a month.
-- Identifiers: table.
CREATE TABLE {table} (LIKE tickview.events);

-- name: attach_month_table
-- Make the table of a month a partition of the events. Creating and attaching in two steps does not block readers.
-- Identifiers: table; literals: start and end of the month.
ALTER TABLE tickview.events ATTACH PARTITION {table} FOR VALUES FROM ({start}) TO ({end});

-- name: copy_log_events
-- Read events of a log in the order of their positions.
-- Parameters: log, after (excluded), upto (included), limit.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s
) TO STDOUT (FORMAT binary);

-- name: select_batch_end
-- Find the end of a batch of events of a log that is bounded by bytes. The first event may have more bytes.
-- Parameters: bytes, log, after (excluded), upto (included), limit.
-- Result: last position of the batch; null if there is no event.
SELECT coalesce(max(position) FILTER (WHERE total <= %s), min(position)) FROM (
    SELECT position, sum(octet_length(state)) OVER (ORDER BY position) AS total FROM (
        SELECT position, state FROM tickview.events
        WHERE log = %s AND position > %s AND position <= %s ORDER BY position LIMIT %s
    ) AS events
) AS batch;

-- name: copy_stream_events_ascending
-- Read events of a stream, the lowest version first.
-- Parameters: log, stream, lowest version, highest version, limit.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND stream = %s AND version BETWEEN %s AND %s ORDER BY version ASC LIMIT %s
) TO STDOUT (FORMAT binary);

-- name: copy_stream_events_descending
-- Read events of a stream, the highest version first.
-- Parameters: log, stream, lowest version, highest version, limit.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events
    WHERE log = %s AND stream = %s AND version BETWEEN %s AND %s ORDER BY version DESC LIMIT %s
) TO STDOUT (FORMAT binary);

-- name: select_first_position_since
-- Find the first event of a log that was recorded at a moment or later. Along a log, neither positions nor times of
-- recording decrease.
-- Parameters: log, moment.
-- Result: one row (position); no row if there is no such event.
SELECT position FROM tickview.events WHERE log = %s AND recorded_at >= %s ORDER BY recorded_at, position LIMIT 1;

-- name: select_last_position_before
-- Find the last event of a log that was recorded before a moment.
-- Parameters: log, moment.
-- Result: one row (position); no row if there is no such event.
SELECT position FROM tickview.events WHERE log = %s AND recorded_at < %s
ORDER BY recorded_at DESC, position DESC LIMIT 1;

-- name: select_position_limits
-- Find the lowest and the highest archived position of a log.
-- Parameters: log.
-- Result: one row (lowest, highest), both NULL if the archive has no event of the log.
SELECT min(position), max(position) FROM tickview.events WHERE log = %s;

-- name: fence_archiver
-- End the lease of the archiver of a log. Waits for the transaction of an archiver that commits at this moment. Events
-- that an archiver has read but not committed are refused afterwards.
-- Parameters: log.
-- Result: one row (id of the log, epoch of the log, archived position); no row if the archive does not know the log.
UPDATE tickview.segments AS segment SET epoch = segment.epoch + 1, leased_until = '-infinity'
FROM tickview.logs WHERE logs.log = segment.log AND segment.name = 'archive' AND segment.log = %s
RETURNING logs.id, logs.epoch, segment.position;

-- name: merge_partitions
-- Merge a number of partitions of a log into the stored number. The present number never falls, the first never rises.
-- Parameters: family (name of the log without partition), number (the present one), created (the first one).
-- Result: one row (present number, first number); no row if the log never had a number of the given range.
INSERT INTO tickview.families AS family (family, partitions, created)
VALUES (%(family)s, %(number)s, %(created)s)
ON CONFLICT (family) DO UPDATE SET
    partitions = greatest(family.partitions, excluded.partitions),
    created = least(coalesce(family.created, family.partitions), excluded.created)
WHERE coalesce(family.created, family.partitions) <= excluded.partitions AND excluded.created <= family.partitions
RETURNING partitions, created;

-- name: select_partitions
-- Read the present number of partitions of a log.
-- Parameters: family.
-- Result: one row (number); no row if the log was never opened.
SELECT partitions FROM tickview.families WHERE family = %s;

-- name: lock_log_opening
-- Wait until no other process opens this log. The lock ends with the transaction.
-- Parameters: name of the lock.
SELECT pg_advisory_xact_lock(hashtextextended(%s, 0));

-- name: select_event_id
-- Read the id of the event at a position.
-- Parameters: log, position.
-- Result: one row (event_id); no row if the archive does not have the position.
SELECT event_id FROM tickview.events WHERE log = %s AND position = %s;

-- name: insert_loss
-- Record that a log came back with fewer events than others had seen, and store the new epoch of the log.
-- Parameters: log, epoch, found, restored and seen (positions), rebuilt (names of read models).
WITH updated AS (UPDATE tickview.logs SET epoch = %(epoch)s WHERE log = %(log)s)
INSERT INTO tickview.losses (log, epoch, found, restored, seen, rebuilt)
VALUES (%(log)s, %(epoch)s, %(found)s, %(restored)s, %(seen)s, %(rebuilt)s) ON CONFLICT (log, epoch) DO NOTHING;

-- name: copy_remembered_events
-- Read the events of which the log must know version and id again: the last event of each stream, and every event that
-- is recent enough for its id to be refused as a duplicate.
-- Parameters: log, after (excluded), upto (included), remembered (a moment).
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events WHERE log = %(log)s AND position > %(after)s AND position <= %(upto)s AND (
        recorded_at >= %(remembered)s
        OR (log, position) IN (
            SELECT DISTINCT ON (stream) log, position FROM tickview.events
            WHERE log = %(log)s AND position > %(after)s AND position <= %(upto)s ORDER BY stream, version DESC
        )
    ) ORDER BY position
) TO STDOUT (FORMAT binary);

-- name: copy_last_events
-- Read the events behind a position, which the log gets back in full.
-- Parameters: log, after (excluded).
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT * FROM tickview.events WHERE log = %(log)s AND position > %(after)s ORDER BY position
) TO STDOUT (FORMAT binary);

-- name: select_checkpoints
-- Read the archived position of each log.
-- Parameters: name of the archive's segments.
-- Result: one row (log, position) per log.
SELECT log, position FROM tickview.segments WHERE name = %s;

-- name: copy_event_page
-- Read the first events of several logs that pass a filter, in the order (recorded_at, log, position).
-- The range of each log is also given as a range of time, so that PostgreSQL reads the partitions of those months only.
-- Parameters: logs, after (positions, excluded), upto (positions, included), limit; topic, source, event_id,
-- correlation_id, from_time and to_time of the filter, each of which may be NULL.
-- Result: rows of tickview.events in binary format.
COPY (
    WITH place AS MATERIALIZED (
        SELECT given.*,
            coalesce((SELECT recorded_at FROM tickview.events AS first
                WHERE first.log = given.log AND first.position = given.after), '-infinity') AS since,
            coalesce((SELECT recorded_at FROM tickview.events AS last
                WHERE last.log = given.log AND last.position = given.upto), 'infinity') AS until
        FROM unnest(%(logs)s::text[], %(after)s::bigint[], %(upto)s::bigint[]) AS given (log, after, upto)
    )
    SELECT event.* FROM place CROSS JOIN LATERAL (
        SELECT * FROM tickview.events AS event
        WHERE log = place.log AND position > place.after AND position <= place.upto
            AND recorded_at >= place.since AND recorded_at <= place.until
            AND (%(topic)s::text IS NULL OR topic = %(topic)s::text)
            AND (%(source)s::text IS NULL OR source = %(source)s::text)
            AND (%(event_id)s::text IS NULL OR event_id = %(event_id)s::text)
            AND (%(correlation_id)s::text IS NULL OR correlation_id = %(correlation_id)s::text)
            AND (%(from_time)s::timestamptz IS NULL OR recorded_at >= %(from_time)s::timestamptz)
            AND (%(to_time)s::timestamptz IS NULL OR recorded_at < %(to_time)s::timestamptz)
        ORDER BY recorded_at, position LIMIT %(limit)s
    ) AS event
    ORDER BY event.recorded_at, event.log COLLATE "C", event.position LIMIT %(limit)s
) TO STDOUT (FORMAT binary);

-- name: copy_stream_page
-- Read the first events of one stream that pass a filter. The versions of a stream are in the order of its log and have
-- an index, so that the search starts at the version of the event at the position ``after``.
-- Parameters: those of copy_event_page, and stream.
-- Result: rows of tickview.events in binary format.
COPY (
    WITH place AS MATERIALIZED (
        SELECT given.*,
            coalesce((SELECT recorded_at FROM tickview.events AS first
                WHERE first.log = given.log AND first.position = given.after), '-infinity') AS since,
            coalesce((SELECT recorded_at FROM tickview.events AS last
                WHERE last.log = given.log AND last.position = given.upto), 'infinity') AS until
        FROM unnest(%(logs)s::text[], %(after)s::bigint[], %(upto)s::bigint[]) AS given (log, after, upto)
    )
    SELECT event.* FROM place CROSS JOIN LATERAL (
        SELECT * FROM tickview.events AS event
        WHERE log = place.log AND position > place.after AND position <= place.upto
            AND recorded_at >= place.since AND recorded_at <= place.until
            AND stream = %(stream)s AND version > coalesce((SELECT version FROM tickview.events AS first
                WHERE first.log = place.log AND first.position = place.after AND first.recorded_at = place.since
                    AND first.stream = %(stream)s), -1)
            AND (%(topic)s::text IS NULL OR topic = %(topic)s::text)
            AND (%(source)s::text IS NULL OR source = %(source)s::text)
            AND (%(event_id)s::text IS NULL OR event_id = %(event_id)s::text)
            AND (%(correlation_id)s::text IS NULL OR correlation_id = %(correlation_id)s::text)
            AND (%(from_time)s::timestamptz IS NULL OR recorded_at >= %(from_time)s::timestamptz)
            AND (%(to_time)s::timestamptz IS NULL OR recorded_at < %(to_time)s::timestamptz)
        ORDER BY version LIMIT %(limit)s
    ) AS event
    ORDER BY event.recorded_at, event.log COLLATE "C", event.position LIMIT %(limit)s
) TO STDOUT (FORMAT binary);

-- name: select_history_checkpoint
-- Find out which version of a history is live, and up to which position it has folded a log.
-- Parameters: log, name of the history.
-- Result: one row (version, position); no row if no version is live.
SELECT live.version, coalesce(segment.position, 0) FROM tickview.live_versions AS live
LEFT JOIN tickview.segments AS segment
    ON segment.name = live.name AND segment.version = live.version AND segment.log = %s
WHERE live.name = %s;

-- name: copy_unit_events
-- Read the events of a unit that a history has folded.
-- Identifiers: events (the table of the events of each unit). Parameters: version, unit, log, upto (included), limit.
-- Result: rows of tickview.events in binary format.
COPY (
    SELECT event.* FROM {events} AS reference
    JOIN tickview.events AS event USING (log, position, recorded_at)
    WHERE reference.version = %s AND reference.unit = %s AND reference.log = %s AND reference.position <= %s
    ORDER BY reference.position LIMIT %s
) TO STDOUT (FORMAT binary);

-- name: begin_read_only_snapshot
-- Let this transaction read one state of the database. The statement must be the first of the transaction.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
