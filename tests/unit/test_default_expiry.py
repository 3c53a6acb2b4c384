"""The default end of detections: set where messages come in, marked, and never stronger than an announced end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.default_expiry import EVERY_TIER, EXPIRES_FROM, add_default_end
from domain.events import Event, PatternDetected
from infra.settings import Settings
from projections.patterns import ActivePatterns
from projections.specification import Given
from tests.events import NOON, pattern_detected, pattern_updated
from tests.strategies import pattern_events

HOUR = {EVERY_TIER: 3_600.0}


@given(pattern_events, st.dictionaries(st.sampled_from(("daily", "intraday", EVERY_TIER)), st.floats(0.1, 1e6)))
def test_only_a_detection_without_an_end_gets_the_default_of_its_tier(event: Event, seconds: dict[str, float]) -> None:
    completed = add_default_end(event, seconds)
    tier = getattr(event, "tier", None)
    default = seconds.get(tier if tier in seconds else EVERY_TIER)
    if isinstance(event, PatternDetected) and event.expires_at is None and default is not None:
        end = max(event.detected_at, event.occurred_at) + default
        assert completed == event.model_copy(
            update={"expires_at": end, "extra": event.extra | {EXPIRES_FROM: "default"}}
        )
        assert add_default_end(completed, seconds) is completed
    else:
        assert completed is event


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3600", {EVERY_TIER: 3_600}),
        (" Daily = 86400, intraday=3600 ", {"daily": 86_400, "intraday": 3_600}),
        ("daily=86400,3600", {"daily": 86_400, EVERY_TIER: 3_600}),
        ("", {}),
    ],
)
def test_the_setting_has_seconds_for_every_tier_or_by_tier(text: str, seconds: dict[str, float]) -> None:
    assert Settings.model_validate({"default_expiry": text}).default_expiry == seconds


@pytest.mark.parametrize("text", ["an hour", "0", "-1", "nan", "1e12", "daily=", "daily=1,DAILY=2", "1,2"])
def test_any_other_setting_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="default_expiry"):
        Settings.model_validate({"default_expiry": text})


def row_after(*events: Event) -> Any:
    return Given(ActivePatterns(), *events).row()


def by_default(**fields: Any) -> Event:
    return add_default_end(pattern_detected(**fields), HOUR)


def test_the_row_shows_the_origin_of_its_end() -> None:
    without_end, announced = row_after(pattern_detected()), row_after(pattern_detected(expires_at=NOON + 60))
    default = row_after(by_default(extra={"a": 1}))
    assert (without_end.expires_at, without_end.expires_from) == (None, None)
    assert (announced.expires_at, announced.expires_from) == (NOON + 60, "message")
    assert (default.expires_at, default.expires_from, default.extra) == (NOON + 3_600, "default", {"a": 1})


def test_an_announced_end_replaces_a_default_end_and_not_the_reverse() -> None:
    announced = row_after(by_default(), pattern_updated(tier="daily", expires_at=NOON + 60))
    assert (announced.expires_at, announced.expires_from) == (NOON + 60, "message")
    repeated = row_after(pattern_detected(expires_at=NOON + 60), by_default(occurred_at=NOON + 5))
    assert (repeated.expires_at, repeated.expires_from) == (NOON + 60, "message")
    prolonged = row_after(by_default(), by_default(occurred_at=NOON + 5))
    assert (prolonged.expires_at, prolonged.expires_from) == (NOON + 3_605, "default")
    unchanged = row_after(by_default(), pattern_updated(tier="daily", confidence=0.9))
    assert (unchanged.expires_at, unchanged.expires_from) == (NOON + 3_600, "default")
