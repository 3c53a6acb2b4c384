-- The read model pattern_history: each pattern as the scan showed it, over time (docs/as-of.md).

CREATE TABLE tickview.live_versions (
    name text PRIMARY KEY,
    version integer NOT NULL
);
COMMENT ON TABLE tickview.live_versions IS 'The version of each read model in PostgreSQL that answers';

CREATE TABLE tickview.pattern_events (
    version integer NOT NULL,
    detection text NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (version, detection, position)
);
COMMENT ON TABLE tickview.pattern_events IS 'The events that speak of each detection of a pattern, whatever the tier';

CREATE TABLE tickview.pattern_history (
    version integer NOT NULL,
    timeline text NOT NULL,
    detection text NOT NULL,
    id text NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL,
    span tstzrange NOT NULL,
    symbol text NOT NULL,
    pattern text NOT NULL,
    tier text NOT NULL,
    confidence double precision NOT NULL,
    detected_at double precision NOT NULL,
    relative_strength double precision,
    relative_volume double precision,
    rsi double precision,
    document bytea NOT NULL
) PARTITION BY LIST (timeline);
COMMENT ON TABLE tickview.pattern_history IS
    'Each state of a pattern and the span in which the scan showed it: on the timeline of recording (what we knew then) and on that of the market (what we know now of then)';

CREATE TABLE tickview.pattern_history_recorded PARTITION OF tickview.pattern_history FOR VALUES IN ('recorded');
CREATE TABLE tickview.pattern_history_valid PARTITION OF tickview.pattern_history FOR VALUES IN ('valid');

CREATE INDEX pattern_history_span ON tickview.pattern_history USING gist (span);
CREATE INDEX pattern_history_detection ON tickview.pattern_history (detection);
CREATE INDEX pattern_history_symbol ON tickview.pattern_history (symbol);
