"""Users' workspaces: load an aggregate from the log of the users, execute commands, keep snapshots."""
