"""Who asks: the identity behind a request."""

import re
from typing import NamedTuple

from falcon.asgi import Request

from readapi.problems import invalid

USER_HEADER = "X-User-ID"

SUBJECT_PATTERN = "^[A-Za-z0-9._@-]{1,128}$"

_SUBJECT = re.compile(SUBJECT_PATTERN.removesuffix("$") + r"\Z", re.ASCII)

DEVELOPER = "developer"
"""The user of a service without authentication, if a request names none."""

EVERY_SCOPE = frozenset({"read", "write", "produce", "operate"})


class Identity(NamedTuple):
    """A user, and what they may do."""

    subject: str
    scopes: frozenset[str]


def identity_of(req: Request) -> Identity:
    """Who asks. Raises Problem (400) for an ``X-User-ID`` that cannot be a user's."""
    identity: Identity | None = getattr(req.context, "identity", None)
    if identity is not None:
        return identity
    subject = req.get_header(USER_HEADER) or DEVELOPER
    if not _SUBJECT.match(subject):
        raise invalid([{"field": USER_HEADER, "reason": "should be 1 to 128 letters, digits or . _ @ -"}])
    return Identity(subject, EVERY_SCOPE)
