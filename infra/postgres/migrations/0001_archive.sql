-- The archive: every event of every log, chained by hash (docs/archive.md).

CREATE TABLE tickview.events (
    log text NOT NULL,
    position bigint NOT NULL,
    recorded_at timestamptz NOT NULL,
    stream text NOT NULL,
    version bigint NOT NULL,
    topic text NOT NULL,
    event_id text NOT NULL,
    source text,
    correlation_id text,
    origin text NOT NULL,
    state bytea NOT NULL,
    hash bytea NOT NULL
) PARTITION BY RANGE (recorded_at);
COMMENT ON TABLE tickview.events IS
    'Every event; a partition a month, which can be detached. hash = sha256(hash of the position before || all columns before hash)';

CREATE INDEX events_position ON tickview.events (log, position);
CREATE INDEX events_stream ON tickview.events (log, stream, version);
CREATE INDEX events_event_id ON tickview.events (event_id);
CREATE INDEX events_correlation ON tickview.events (correlation_id, recorded_at) WHERE correlation_id IS NOT NULL;
CREATE INDEX events_recorded ON tickview.events (log, recorded_at);
CREATE INDEX events_topic ON tickview.events (log, topic, recorded_at);
CREATE INDEX events_source ON tickview.events (log, source, recorded_at) WHERE source IS NOT NULL;

CREATE TABLE tickview.logs (
    log text PRIMARY KEY,
    id text NOT NULL,
    epoch integer NOT NULL,
    hash bytea NOT NULL
);
COMMENT ON TABLE tickview.logs IS 'The logs: the id and the epoch that each carries, and the hash of its last archived event';

CREATE TABLE tickview.families (
    family text PRIMARY KEY,
    partitions integer NOT NULL
);
COMMENT ON TABLE tickview.families IS 'Into how many logs a log was divided when it was first opened, which never changes';

CREATE TABLE tickview.anchors (
    log text NOT NULL,
    month date NOT NULL,
    position bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (log, month)
);
COMMENT ON TABLE tickview.anchors IS
    'The position and hash of the last event before each month of a log: where a chain begins whose months before have been detached';

CREATE TABLE tickview.segments (
    name text NOT NULL,
    version integer NOT NULL,
    log text NOT NULL,
    position bigint NOT NULL DEFAULT 0,
    recorded_at timestamptz,
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    error text,
    PRIMARY KEY (name, version, log)
);
COMMENT ON TABLE tickview.segments IS
    'The work of the archive, and of pattern_history, on each log: checkpoint, lease and its epoch (the fence), what holds it up';

CREATE TABLE tickview.losses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log text NOT NULL,
    noticed_at timestamptz NOT NULL DEFAULT now(),
    epoch integer NOT NULL,
    found bigint NOT NULL,
    restored bigint NOT NULL,
    seen bigint NOT NULL,
    rebuilt text NOT NULL,
    UNIQUE (log, epoch)
);
COMMENT ON TABLE tickview.losses IS
    'Times that a log came back with less than others had seen: its last position as found, as restored from the archive, as seen by read models; the read models that are built anew for it';

CREATE TABLE tickview.verifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    events bigint NOT NULL,
    result jsonb NOT NULL
);
COMMENT ON TABLE tickview.verifications IS 'What each verification of the chains has found';
