"""What every process of ours shares: the supervisor, logs, threads that must not end, and errors at start-up."""
