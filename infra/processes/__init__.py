"""Parts that every process shares: the supervisor and its lifeline, logs, threads, and the error of a failed start."""
