"""What schemathesis must be told that an OpenAPI document cannot say."""

import re

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, Response

from readapi.http.read_model import MIN_POSITION_HEADER, POSITIONS_PATTERN

UNSAYABLE = {"cursor", "rsi_range", "as_of", "as_of_valid", "to", "sectors", "universe", "watchlist", "preset"}
"""Parameters whose values must suit each other, the moment, the catalogue, or what a user has, which JSON Schema cannot
say."""

HEALTH = {"/api/health", "/api/pattern-discovery/health"}

schemathesis.openapi.format(
    "moment", st.sampled_from(["2026-01-01", "2026-01-01T12:30Z", "2026-01-01T12:30:15.5-05:00"])
)
schemathesis.openapi.format(
    "cursor", st.sampled_from(["7", "WyJjb25maWRlbmNlIiwiZGVzYyIsMC41LCJBIl0", "eyJtYXJrZXQtMSI6MX0"])
)


@schemathesis.check
def only_the_unsayable_is_refused(_context: CheckContext, response: Response, case: Case) -> None:
    """What fits the document is refused with 400 only for what the document cannot say."""
    # schemathesis 4.32 sends 0 for an optional header with a pattern, and calls it valid.
    position = (case.headers or {}).get(MIN_POSITION_HEADER)
    fits = position is None or re.fullmatch(POSITIONS_PATTERN, str(position))
    if fits and case.meta is not None and case.meta.generation.mode.is_positive and response.status_code == 400:
        assert {error["field"] for error in response.json()["errors"]} <= UNSAYABLE, response.text


@schemathesis.check
def every_refusal_is_a_problem(_context: CheckContext, response: Response, case: Case) -> None:
    """Errors are problem documents; ill health is told in the words of health."""
    if response.status_code >= 400 and case.method != "HEAD" and case.path not in HEALTH:
        assert response.headers["content-type"] == ["application/problem+json"], response.headers
        assert response.json()["status"] == response.status_code
