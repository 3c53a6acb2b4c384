"""Problems of access control. A problem does not say why a token is invalid, so that it does not help attackers."""

from http import HTTPStatus

from readapi.http.identities import Scope
from readapi.http.problems import Problem

_CHALLENGE = 'Bearer realm="tickview"'
"""Value of ``WWW-Authenticate`` (RFC 6750, section 3)."""


def unauthenticated() -> Problem:
    """Create the problem 401 for a request without a token."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "unauthenticated",
        "this request needs a token: send the header Authorization: Bearer <token>",
        headers={"WWW-Authenticate": _CHALLENGE},
    )


def invalid_token() -> Problem:
    """Create the problem 401 for a request with an invalid token."""
    return Problem(
        HTTPStatus.UNAUTHORIZED,
        "invalid-token",
        "the token is not valid: it may have expired, been revoked or belong to another service; get a new token",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
    )


def missing_scope(scope: Scope) -> Problem:
    """Create the problem 403 for a token without the required scope."""
    return Problem(
        HTTPStatus.FORBIDDEN,
        "missing-scope",
        f"this request needs a token with the scope {scope}",
        headers={"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'},
        scope=scope,
    )


def another_user() -> Problem:
    """Create the problem 403 for a header ``X-User-ID`` that contradicts the token."""
    detail = "X-User-ID names another user than the token: leave the header out, because the token identifies the user"
    return Problem(HTTPStatus.FORBIDDEN, "another-user", detail)


def foreign_origin(origin: str) -> Problem:
    """Create the problem 403 for a request from a page of another site."""
    detail = f"pages of {origin[:200]!a} may not send this request: add the origin to TICKVIEW_CORS_ORIGINS to allow it"
    return Problem(HTTPStatus.FORBIDDEN, "foreign-origin", detail)


def not_local() -> Problem:
    """Create the problem 403 for a request from another machine to a service without authentication."""
    detail = (
        "without authentication the service only accepts requests from its own machine under the name localhost: "
        "set TICKVIEW_TOKENS_FILE or TICKVIEW_JWT_ISSUER to serve other machines"
    )
    return Problem(HTTPStatus.FORBIDDEN, "not-local", detail)


def encoded_body(encoding: str) -> Problem:
    """Create the problem 415 for a compressed body."""
    detail = f"a body with the Content-Encoding {encoding[:200]!a} is not accepted: send it without compression"
    return Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "encoded-body", detail, headers={"Accept-Encoding": "identity"})


def unknown_expectation(expectation: str) -> Problem:
    """Create the problem 417 for an expectation other than 100-continue."""
    detail = f"the expectation {expectation[:200]!a} is unknown: leave out the header Expect"
    return Problem(HTTPStatus.EXPECTATION_FAILED, "unknown-expectation", detail)


def too_many_requests(retry_after: int) -> Problem:
    """Create the problem 429 for a client above its rate limit. ``retry_after`` is in seconds."""
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        "too-many-requests",
        f"the client sent more requests than TICKVIEW_RATE_LIMIT allows: try again in {retry_after} s",
        headers={"Retry-After": str(retry_after)},
    )
