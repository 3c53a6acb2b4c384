"""The web server: an adapter of gunicorn and uvicorn with the limits, signals and streams that the API needs.

The adapter overrides private parts of gunicorn, uvicorn and uvicorn-worker. No other package imports these libraries,
and setup.cfg bounds their versions. ``tests/integration/test_web_server_contract.py`` names every private part and the
behaviour of the adapter, so that an incompatible upgrade fails there.

- ``gunicorn``: ``Server``, the processes of ``tickview serve`` and their signals.
- ``uvicorn``: ``HttpStream`` and ``WebSocketStream``, the protocols with direct access to the client's socket.
- ``request_limits``: time and size limits of requests.
"""
