"""What happened and what may happen: events, wire formats, streams. No I/O."""
