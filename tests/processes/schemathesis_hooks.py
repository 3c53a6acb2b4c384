"""Formats and checks for schemathesis that the OpenAPI document cannot express."""

import re

import schemathesis
from hypothesis import strategies as st
from schemathesis import Case, CheckContext, Response

from projections.registry import READ_MODELS
from readapi.http.read_model import MIN_POSITION_HEADER, POSITIONS_PATTERN

UPPER_BOUNDS = {
    f"{name}_max" for model in READ_MODELS.values() for name, column in model.columns.items() if column.range
}
CLOSED_SETS = {name for model in READ_MODELS.values() for name, column in model.columns.items() if column.is_closed}
LISTS = {"sectors", "universe", "watchlist", "preset"}

INEXPRESSIBLE = {"cursor", "rsi_range", "as_of", "as_of_valid", "to"} | LISTS | UPPER_BOUNDS | CLOSED_SETS
"""Parameters with rules that JSON Schema cannot express: their values depend on other parameters, on the time, on the
rows of a read model or on the lists of the user."""

HEALTH = {"/api/health", "/api/pattern-discovery/health"}
"""Paths that answer an error status with a health document instead of a problem document."""

schemathesis.openapi.format(
    "moment", st.sampled_from(["2026-01-01", "2026-01-01T12:30Z", "2026-01-01T12:30:15.5-05:00"])
)
schemathesis.openapi.format(
    "cursor", st.sampled_from(["7", "WyJjb25maWRlbmNlIiwiZGVzYyIsMC41LCJBIl0", "eyJtYXJrZXQtMSI6MX0"])
)


@schemathesis.check
def valid_requests_are_refused_only_for_inexpressible_rules(
    _context: CheckContext, response: Response, case: Case
) -> None:
    """Check that the API refuses a valid request with 400 only for a rule that the document cannot express."""
    # schemathesis 4.32 sends 0 for an optional header with a pattern and declares the request valid.
    position = (case.headers or {}).get(MIN_POSITION_HEADER)
    is_valid = position is None or re.fullmatch(POSITIONS_PATTERN, str(position))
    if is_valid and case.meta is not None and case.meta.generation.mode.is_positive and response.status_code == 400:
        assert {error["field"] for error in response.json()["errors"]} <= INEXPRESSIBLE, response.text


@schemathesis.check
def every_error_is_a_problem_document(_context: CheckContext, response: Response, case: Case) -> None:
    """Check that every error is a problem document, except for health documents."""
    if response.status_code >= 400 and case.method != "HEAD" and case.path not in HEALTH:
        assert response.headers["content-type"] == ["application/problem+json"], response.headers
        assert response.json()["status"] == response.status_code
