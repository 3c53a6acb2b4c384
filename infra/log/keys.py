"""The Redis keys of a log. They share one hash tag, so that a cluster stores them in one slot."""


def tagged_key(name: str, part: str) -> str:
    """Return the Redis key ``tickview:{<name>}:<part>``.

    Raises:
        ValueError: The name is empty or contains braces, so that it cannot be a hash tag.
    """
    if not name or "{" in name or "}" in name:
        raise ValueError(f"{name!r} cannot name a log. Choose a name that is not empty and contains no braces.")
    return f"tickview:{{{name}}}:{part}"


class LogKeys:
    """The keys of one log. ``docs/event-log.md`` describes the content of each key.

    Raises:
        ValueError: The name is empty or contains braces.
    """

    def __init__(self, name: str) -> None:
        self.log = tagged_key(name, "log")
        self.meta = tagged_key(name, "meta")
        self.versions = tagged_key(name, "versions")
        self.trimmed = tagged_key(name, "trimmed")
        self.tracking = tagged_key(name, "tracking")
        self.ids_prefix = tagged_key(name, "ids:")
        self.streams_prefix = tagged_key(name, "stream:")

    def stream(self, stream: str) -> str:
        """Return the key of the list of a stream's positions."""
        return self.streams_prefix + stream
