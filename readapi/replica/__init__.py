"""The columnar replica of the active patterns, from which an API process answers scans without I/O."""
