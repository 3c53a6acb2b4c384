"""Redis: connections, the node of a cluster that holds a key, and the server-side functions."""
