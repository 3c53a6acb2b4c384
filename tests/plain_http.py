"""The parameter ``verify`` of the tests' HTTP clients, which speak to servers of this machine without TLS."""

import ssl

PLAIN_HTTP = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""A client with this context trusts no authority. Without it, each client of httpx reads the authorities of the system
in 20 ms of processor time, although they are of no use without TLS."""
