"""Live push: sends committed changes of the read models to connected clients over SSE and WebSocket."""
