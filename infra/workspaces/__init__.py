"""Workspaces of users: load the aggregate from the log ``users``, execute commands, store snapshots."""
