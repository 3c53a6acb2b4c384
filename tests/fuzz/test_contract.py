"""Many examples of schemathesis against the whole service: no server error, and no answer that is not documented."""

from pathlib import Path

import pytest

from tests.fuzz.budget import MINUTES, TIMEOUT_SECONDS
from tests.processes.contract import run_schemathesis, service_with_content

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.mark.skipif(not MINUTES, reason="tests/processes/test_api_contract.py runs few examples: make fuzz")
def test_schemathesis_finds_no_contradiction_in_many_examples(postgres_18_dsn: str, tmp_path: Path) -> None:
    with service_with_content(postgres_18_dsn, tmp_path) as client:
        options = ("--max-examples", "200", "--max-time", f"{round(60 * MINUTES)}")
        run_schemathesis(client, *options, seconds=TIMEOUT_SECONDS)
