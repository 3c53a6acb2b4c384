"""Failed assertions of the oracle show the compared values."""

import pytest

pytest.register_assert_rewrite("tests.chaos.oracle")
