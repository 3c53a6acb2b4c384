-- The keys with which the events of users are encrypted (docs/privacy.md). The archiver copies them from Redis before the
-- events, so that a new Redis gets the keys back together with the log.

CREATE TABLE tickview.user_keys (
    user_id text PRIMARY KEY,
    generation integer NOT NULL,
    secret bytea,
    changed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tickview.user_keys IS
    'The key of each user. All keys of lower generations are destroyed; a NULL secret says that this key is destroyed, too';
