"""Answers to those who may not: 401 says nothing of why a token is not valid, 403 names what is missing."""

from http import HTTPStatus

from readapi.http.identities import Scope
from readapi.http.problems import Problem

_CHALLENGE = 'Bearer realm="tickview"'


def unauthenticated() -> Problem:
    """401: no token was shown."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "this needs a token: send the header Authorization: Bearer <token>",
        headers={"WWW-Authenticate": _CHALLENGE},
    )


def invalid_token() -> Problem:
    """401: what was shown is no token that is valid here, now. Why is for those who try keys to find out."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "invalid-token",
        "the token is not valid here: it may have ended, been revoked or be for another service; ask for a new one",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
    )


def missing_scope(scope: Scope) -> Problem:
    """403: the token does not reach so far."""
    return Problem(
        HTTPStatus.FORBIDDEN,
        "missing-scope",
        f"this needs a token with the scope {scope}",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )


def another_user() -> Problem:
    """403: the header names somebody else than the token does."""
    detail = "X-User-ID names another user than the token does: the token alone says who asks, so leave the header out"
    return Problem(HTTPStatus.FORBIDDEN, "another-user", detail)


def foreign_origin(origin: str) -> Problem:
    """403: a page of another site asks for what changes something."""
    detail = f"pages of {origin[:200]!a} may not ask for this: TICKVIEW_CORS_ORIGINS lists those that may"
    return Problem(HTTPStatus.FORBIDDEN, "foreign-origin", detail)


def not_local() -> Problem:
    """403: without authentication, only this machine is served."""
    detail = (
        "without authentication only this machine is served, by the name of localhost: "
        "set TICKVIEW_TOKENS_FILE or TICKVIEW_JWT_ISSUER to serve others"
    )
    return Problem(HTTPStatus.FORBIDDEN, "not-local", detail)


def too_many_requests(retry_after: int) -> Problem:
    """429: more requests than the limit allows."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        f"more requests than TICKVIEW_RATE_LIMIT allows: try again in {retry_after} s",
        headers={"Retry-After": str(retry_after)},
    )
