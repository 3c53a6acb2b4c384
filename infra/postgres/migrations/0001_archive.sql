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
    'All events. Each month has a partition, which can be detached. hash = sha256(hash of the previous position || all columns before hash)';

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
COMMENT ON TABLE tickview.logs IS 'The logs, each with its id, its epoch and the hash of its last archived event';

CREATE TABLE tickview.families (
    family text PRIMARY KEY,
    partitions integer NOT NULL
);
COMMENT ON TABLE tickview.families IS 'The number of partitions of each log family, which is fixed when the family is first opened';

CREATE TABLE tickview.anchors (
    log text NOT NULL,
    month date NOT NULL,
    position bigint NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (log, month)
);
COMMENT ON TABLE tickview.anchors IS
    'The position and the hash of the last event before each month of a log. A hash chain begins here if the earlier months are detached';

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
    'The segments of the archive and of pattern_history, one per log: checkpoint, lease with its epoch (the fence), and the error that prevents progress';

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
    'The losses of logs. After a loss, a log has fewer events than other processes had read. found: last position after the loss; restored: last position after the restoration from the archive; seen: last position that a read model had folded; rebuilt: read models that are built anew';

CREATE TABLE tickview.verifications (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    events bigint NOT NULL,
    result jsonb NOT NULL
);
COMMENT ON TABLE tickview.verifications IS 'The result of each verification of the hash chains';
