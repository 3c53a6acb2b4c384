"""``tickview bench scale``: how the cost of each part grows with the patterns, the partitions and the push filters."""
