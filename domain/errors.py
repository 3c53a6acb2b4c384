"""The base class of TickView's exceptions."""


class TickViewError(Exception):
    """An error that TickView raises on purpose. Its message says what is wrong, where, and what to do."""
