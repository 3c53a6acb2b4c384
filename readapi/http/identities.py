"""Identities: the subject of a token and the scopes that it has."""

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol, get_args

from falcon.asgi import Request

Scope = Literal["read", "write", "produce", "operate"]
"""``read`` what the service tells, ``write`` one's own lists, ``produce`` events, ``operate`` the service."""

SCOPES: tuple[Scope, ...] = get_args(Scope)

SUBJECT_PATTERN = "[!-~]{1,128}"
"""What a subject may be: it is part of a stream's name."""

NOT_A_SUBJECT = "should be 1 to 128 characters of ASCII without spaces"

_SUBJECT = re.compile(SUBJECT_PATTERN)


class Identity(NamedTuple):
    """Who asks. A scope does not imply another."""

    subject: str
    scopes: frozenset[str]


NOBODY = Identity("", frozenset())
"""Who has shown no token."""


class Authenticator(Protocol):
    """Knows whose a token is. It is asked with every request, so it neither waits nor connects."""

    def identify(self, token: str) -> Identity | None:
        """Whose it is; None if it is not valid now, for whatever reason."""
        ...


def identity_of(req: Request) -> Identity:
    """Who asks: ``NOBODY`` only where an operation is open to everybody."""
    identity: Identity = req.context.identity
    return identity


def is_admitted(req: Request) -> Callable[[], bool]:
    """Tells, as long as a connection lasts, whether its token is still valid."""
    admitted: Callable[[], bool] | None = getattr(req.context, "is_admitted", None)
    return admitted or (lambda: True)


def is_subject(text: object) -> bool:
    """Whether it may be the subject of an identity."""
    return isinstance(text, str) and _SUBJECT.fullmatch(text) is not None


def known_scopes(names: Iterable[object]) -> frozenset[str]:
    """Those that are ours; a token may have others for other services."""
    return frozenset(SCOPES).intersection(names)
