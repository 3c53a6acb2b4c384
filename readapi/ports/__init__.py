"""The ports of the API: the interfaces and data types through which it reads, commands and operates the service."""
