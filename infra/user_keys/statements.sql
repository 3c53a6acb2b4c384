-- SQL statements of the archived keys of users. The table is described in infra/postgres/migrations.

-- name: merge_keys
-- Merge keys: a higher generation replaces a lower one, and a destroyed key replaces the key of the same generation.
-- Parameters: users, generations, secrets (NULL for a destroyed key).
INSERT INTO tickview.user_keys AS stored (user_id, generation, secret)
SELECT * FROM unnest(%s::text[], %s::integer[], %s::bytea[]) ORDER BY 1
ON CONFLICT (user_id) DO UPDATE SET
    generation = excluded.generation, secret = excluded.secret, changed_at = excluded.changed_at
WHERE stored.generation < excluded.generation
    OR (stored.generation = excluded.generation AND excluded.secret IS NULL AND stored.secret IS NOT NULL);

-- name: destroy_forgotten_keys
-- Destroy the keys that events of the archive say are destroyed. A restored backup of the table may have them again. A
-- state of any other form must not prevent the opening of the log: it destroys no key.
-- Parameters: topic of the events, log.
UPDATE tickview.user_keys AS stored SET secret = NULL, changed_at = now()
FROM (
    SELECT
        substr(stream, 6) AS user_id,
        max(substring(encode(state, 'escape') FROM '"generation":([0-9]{1,9})')::integer) AS generation
    FROM tickview.events WHERE topic = %s AND log = %s GROUP BY stream
) AS forgotten
WHERE stored.user_id = forgotten.user_id AND stored.generation <= forgotten.generation AND stored.secret IS NOT NULL;

-- name: select_keys
-- Read all keys.
-- Result: rows (user_id, generation, secret).
SELECT user_id, generation, secret FROM tickview.user_keys;
