"""Redis: connections, operations on the server that holds a key, and server-side functions."""
