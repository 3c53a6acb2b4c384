-- The number of partitions of a log can be raised (tickview partitions raise). A stream stays in the partition in which
-- it began, so that the first number is kept with the present one.

ALTER TABLE tickview.families ADD COLUMN created integer;
COMMENT ON COLUMN tickview.families.created IS
    'The number of partitions when the family was first opened; NULL is the same as partitions';
COMMENT ON TABLE tickview.families IS 'The number of partitions of each log family, which can be raised and never falls';
