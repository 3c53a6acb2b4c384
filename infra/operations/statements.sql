-- SQL statements of the status of the archive.

-- name: select_archive_segments
-- Read how far each log is archived.
-- Parameters: name and version of the archive's segments.
-- Result: one row (log, position, owner of the lease or NULL, error or NULL) per log.
SELECT log, position, CASE WHEN leased_until > now() THEN owner END, error FROM tickview.segments
WHERE name = %s AND version = %s;

-- name: select_losses
-- Read the latest losses of logs. A log has lost its end if it has fewer events than other processes had read.
-- Parameters: limit.
-- Result: one row (log, time in epoch seconds, epoch, found, restored, seen, names of the rebuilt read models) per loss,
-- the newest first.
SELECT log, extract(epoch FROM noticed_at)::float8, epoch, found, restored, seen, string_to_array(rebuilt, ' ')
FROM tickview.losses ORDER BY noticed_at DESC, id DESC LIMIT %s;
