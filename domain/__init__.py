"""The domain model: events, streams, wire formats and the workspace aggregate. This package performs no I/O."""
