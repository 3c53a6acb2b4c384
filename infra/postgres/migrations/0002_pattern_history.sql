-- The read model pattern_history: the states of each pattern, with the interval in which the scan returned each state
-- (docs/as-of.md).

CREATE TABLE tickview.live_versions (
    name text PRIMARY KEY,
    version integer NOT NULL
);
COMMENT ON TABLE tickview.live_versions IS 'The live version of each read model in PostgreSQL';

CREATE TABLE tickview.pattern_events (
    version integer NOT NULL,
    detection text COLLATE "C" NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (version, detection, position)
);
COMMENT ON TABLE tickview.pattern_events IS 'The events of each detection of a pattern, of all tiers';

-- The texts have the collation "C": the order of the rows must not depend on the locale of the database.
CREATE TABLE tickview.pattern_history (
    version integer NOT NULL,
    timeline text NOT NULL,
    position bigint NOT NULL,
    span tstzrange NOT NULL,
    confidence double precision NOT NULL,
    detected_at double precision NOT NULL,
    relative_strength double precision,
    relative_volume double precision,
    rsi double precision,
    symbol text COLLATE "C" NOT NULL,
    pattern text COLLATE "C" NOT NULL,
    tier text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    log text NOT NULL,
    document bytea NOT NULL
) PARTITION BY LIST (timeline);
COMMENT ON TABLE tickview.pattern_history IS
    'The states of each pattern, each with the span in which the scan returned it. Timeline recorded: the state that TickView knew at a time. Timeline valid: the state that TickView knows now about a time';

CREATE TABLE tickview.pattern_history_recorded PARTITION OF tickview.pattern_history FOR VALUES IN ('recorded');
CREATE TABLE tickview.pattern_history_valid PARTITION OF tickview.pattern_history FOR VALUES IN ('valid');

CREATE INDEX pattern_history_span ON tickview.pattern_history USING gist (span);
CREATE INDEX pattern_history_id ON tickview.pattern_history (version, symbol, id);
