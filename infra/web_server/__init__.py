"""The web server: gunicorn and uvicorn, with the limits and hooks that the API needs."""
