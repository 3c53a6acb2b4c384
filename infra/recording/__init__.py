"""The recorder role: receive messages, record events, keep dead letters and counts."""
