"""The columnar replica of a read model, from which an API process answers queries without I/O."""
