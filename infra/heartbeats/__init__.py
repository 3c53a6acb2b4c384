"""Heartbeats: every process of TickView reports that its threads do their work, so that a stopped thread is noticed."""
