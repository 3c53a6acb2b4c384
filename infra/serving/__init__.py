"""The API role: the adapters behind the ports of ``readapi``, their composition, and the server that runs them."""
