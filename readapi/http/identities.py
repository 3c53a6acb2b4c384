"""Identities: the subject of a token and the scopes that the token grants."""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from domain.origins import Sender

if TYPE_CHECKING:
    from falcon.asgi import Request

Scope = Literal["read", "write", "produce", "operate"]
"""``read``: query data. ``write``: change the user's own lists. ``produce``: record events. ``operate``: administer."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

SUBJECT_PATTERN = "[!-~]{1,128}"
"""Regular expression of a valid subject. The subject is part of the name of the user's stream."""

SUBJECT_RULE = "should be 1 to 128 characters of ASCII without spaces"
"""The rule for subjects, as the end of a sentence."""

_SUBJECT = re.compile(SUBJECT_PATTERN)


class Identity(NamedTuple):
    """The client of a request: a user and the granted scopes. No scope implies another scope."""

    subject: str
    scopes: frozenset[str]
    token_id: str | None = None
    """The id of the token; None if the client has no token, or the token has no id."""

    @property
    def sender(self) -> Sender:
        """The client as the sender of events and commands."""
        return Sender(self.subject, self.token_id)


ANONYMOUS = Identity("", frozenset())
"""The identity of a client without a token."""


class Authenticator(Protocol):
    """Authenticates tokens. Each request calls it, so an implementation must neither block nor connect."""

    def identify(self, token: str) -> Identity | None:
        """Return the identity of a token, or None if the token is not valid now."""
        ...


def identity_of(req: "Request") -> Identity:
    """Return the identity of the client. It is ``ANONYMOUS`` only in operations that need no scope."""
    identity: Identity = req.context.identity
    return identity


def is_admitted(req: "Request") -> Callable[[], bool]:
    """Return a function that says whether the token of a long-lived connection is still valid."""
    admitted: Callable[[], bool] | None = getattr(req.context, "is_admitted", None)
    return admitted or (lambda: True)


def is_subject(text: object) -> bool:
    """Check whether a value is a valid subject."""
    return isinstance(text, str) and _SUBJECT.fullmatch(text) is not None


def known_scopes(names: Iterable[object]) -> frozenset[str]:
    """Select TickView's scopes. A token may also have scopes for other services."""
    return frozenset(SCOPES).intersection(names)
