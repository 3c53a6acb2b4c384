"""The ports: what the API needs from the rest of the service."""
