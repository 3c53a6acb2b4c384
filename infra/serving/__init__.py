"""The API role: the adapters behind the ports of ``readapi``, and the process that serves it."""
