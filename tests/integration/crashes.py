"""The error with which tests let a process crash."""


class CrashError(BaseException):
    """The process crashed. No code handles a crash, so that it is no ``Exception``."""
