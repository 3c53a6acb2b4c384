"""A simulation of recorders, partitions and workers: the lag of each partition under skew, stalls and failovers."""
