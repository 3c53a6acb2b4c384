-- Every read model can have a history now (docs/as-of.md). Its tables are derived from its columns when its history is
-- first folded or read. The history of patterns is folded again from the archive.

DROP TABLE tickview.pattern_history;
DROP TABLE tickview.pattern_events;
DELETE FROM tickview.segments WHERE name = 'pattern_history';
DELETE FROM tickview.live_versions WHERE name = 'pattern_history';
COMMENT ON TABLE tickview.live_versions IS 'The live version of the history of each read model';
COMMENT ON TABLE tickview.segments IS
    'The segments of the archive and of the histories, one per log: checkpoint, lease with its epoch (the fence), and the error that prevents progress';
