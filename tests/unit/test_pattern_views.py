"""The short forms of numbers in the compact view."""

import pytest

from projections.pattern_views import dollars, factor, signed_percent


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (factor(1.44), "1.4x"),
        (factor(999_999_999), "999999999.0x"),
        (factor(1e300), "1.0e+300x"),
        (dollars(150.25), "$150.25"),
        (dollars(-0.5), "-$0.50"),
        (dollars(0.0), "$0.00"),
        (dollars(0.01), "$0.01"),
        (dollars(0.00999), "$0.009990"),
        (dollars(0.0012345), "$0.001234"),
        (dollars(-0.0000123456), "-$0.00001235"),
        (dollars(5e-324), "$0.00"),
        (dollars(-1e12), "-$1.00e+12"),
        (signed_percent(2.31), "+2.3%"),
        (signed_percent(-1e100), "-1.0e+100%"),
    ],
)
def test_numbers_are_short(shown: str, expected: str) -> None:
    assert shown == expected
