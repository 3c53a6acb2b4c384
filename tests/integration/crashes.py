"""The error with which tests let a process crash."""


class CrashError(Exception):
    """The process crashed."""
