"""The port for auditors: verification of the archive, and its heads."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, Protocol

from typing_extensions import TypedDict

from domain.origins import Sender
from readapi.ports.jobs import Job


class Head(TypedDict):
    """The end of the hash chain of a log: the last position, its hash (hexadecimal) and its time (ISO 8601)."""

    log: str
    position: int
    hash: str
    recorded_at: str


class Heads(TypedDict):
    """The heads of all logs, and the time at which they were taken (ISO 8601).

    ``public_key`` (PEM) and ``signature`` (Ed25519, base64) are present if the service has a key. The signature covers
    the document without these two members, as JSON in UTF-8 with sorted keys and without spaces.
    """

    heads: list[Head]
    taken_at: str
    public_key: NotRequired[str]
    signature: NotRequired[str]


class CheckedHead(TypedDict):
    """Whether the present history of a log extends its head, and the reason.

    ``position``, ``hash`` and ``recorded_at`` are null if the heads do not name the log.
    """

    log: str
    position: int | None
    hash: str | None
    recorded_at: str | None
    extends: bool
    detail: str


class CheckedHeads(TypedDict):
    """The result of a check of heads. ``ok`` is true if every log extends its head and the signature is accepted.

    With a key, only a ``valid`` signature is accepted.
    """

    ok: bool
    taken_at: str
    signature: Literal["valid", "forged", "another key", "not signed", "not checked: no key is set"]
    heads: list[CheckedHead]


class Auditor(Protocol):
    """Verifies the archive, takes heads and checks them. Every method raises UnavailableError.

    Commands are recorded with the name of the operator before they are executed. A command raises StateConflictError
    while a job of its kind is under way.
    """

    async def verify(self, options: Mapping[str, Any], operator: Sender) -> Job:
        """Start a verification of the archive.

        Args:
            options: ``log``, and ``from`` and ``to`` of the range as text. Null: no bound.
            operator: The operator who gave the command.
        """
        ...

    async def last_verification(self) -> Job | None:
        """Return the last verification that was started here. None if there was none."""
        ...

    async def take_heads(self) -> Heads:
        """Return the present heads, signed if there is a key. Raises StateConflictError if a log has been changed."""
        ...

    async def check_heads(self, heads: Heads, operator: Sender) -> Job:
        """Start a check that the present history extends heads of an earlier time."""
        ...

    async def last_check(self) -> Job | None:
        """Return the last check of heads that was started here. None if there was none."""
        ...
