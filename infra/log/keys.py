"""The Redis keys of a log. All of them share a hash tag, and so a cluster's slot."""


def key(name: str, part: str) -> str:
    """The key of one part of what is kept under ``name``.

    Raises ValueError for a name that cannot be a hash tag.
    """
    if not name or "{" in name or "}" in name:
        raise ValueError(f"{name!r} cannot name a log: it must be neither empty nor contain braces")
    return f"tickview:{{{name}}}:{part}"


class LogKeys:
    """The keys of one log; ``docs/event-log.md`` says what is in each. Raises ValueError as ``key`` does."""

    def __init__(self, name: str) -> None:
        self.log = key(name, "log")
        self.meta = key(name, "meta")
        self.versions = key(name, "versions")
        self.trimmed = key(name, "trimmed")
        self.tracking = key(name, "tracking")
        self.ids_prefix = key(name, "ids:")
        self.streams_prefix = key(name, "stream:")

    def stream(self, stream: str) -> str:
        """The positions of one stream."""
        return self.streams_prefix + stream
