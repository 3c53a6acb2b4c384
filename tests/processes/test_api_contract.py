"""The OpenAPI document of the real service: schemathesis sends valid and invalid requests and checks the responses."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from infra.access.tokens import create_token
from projections.registry import READ_MODELS
from readapi.http.identities import SCOPES
from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.roles import running_role, tickview

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent.parent
CATALOGUE = REPOSITORY / "infra" / "demo" / "catalogue"
CATALOGUE_OPTIONS = ("--symbols", str(CATALOGUE / "symbols.csv"), "--universes", str(CATALOGUE / "universes.json"))


@pytest.fixture(scope="module")
def client(postgres_18_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    tokens_file = tmp_path_factory.mktemp("contract") / "tokens.json"
    token, _ = create_token(tokens_file, "anna", SCOPES, None)
    with servers.valkey() as server, servers.new_database(postgres_18_dsn) as dsn, ExitStack() as stack:
        settings = {"postgres_dsn": dsn, "wait_seconds": 0.05, "tokens_file": tokens_file, "rate_limit": 0}
        stack.enter_context(running_role("archive", redis_url=server.connection_url, **settings))
        client = stack.enter_context(service(server.connection_url, **settings))
        client.headers["Authorization"] = f"Bearer {token}"
        post(client, [detection(symbol, rs=1.2, rsi=55.0) for symbol in ("AAPL", "MSFT", "BRK.B")])
        refused = client.post("/api/events", json=[detection("AAPL", confidence=7)])
        assert refused.status_code == 422
        catalogue = tickview("catalogue", "sync", *CATALOGUE_OPTIONS, redis_url=server.connection_url, wait_seconds=30)
        assert catalogue.returncode == 0, catalogue.stderr
        yield client


@pytest.mark.timeout(240)
def test_schemathesis_finds_no_contradiction(client: httpx.Client) -> None:
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(FOLDER / "schemathesis.toml")),
        *("run", f"{client.base_url}/openapi.json", "--max-examples", "15"),
        *("--header", f"Authorization: {client.headers['Authorization']}"),
        # The streams never end. tests/integration/test_push_server.py tests them.
        *("--exclude-path", "/api/patterns/stream"),
        *("--exclude-path", "/api/stream"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.processes.schemathesis_hooks", "PYTHONPATH": "."}
    result = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=230, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # schemathesis counts all operations except the one that returns the document. The streams are excluded above.
    assert "60 selected / 62 total" in result.stdout


def test_the_document_is_openapi_3_1_and_describes_every_operation(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    operations = {f"{method} {path}" for path, methods in document["paths"].items() for method in methods}
    assert operations == {
        "get /api/patterns/scan",
        "get /api/patterns/stats",
        "get /api/patterns/summary",
        "get /api/patterns/health",
        "get /api/patterns/stream",
        "get /api/patterns/{pattern_id}",
        "get /api/stream",
        "get /api/backtests",
        "get /api/backtests/{job_id}",
        "get /api/audit/events",
        "get /api/audit/streams/{stream}",
        "get /api/audit/verification",
        "post /api/events",
        "get /api/dead-letters",
        "get /api/dead-letters/{letter_id}",
        "delete /api/dead-letters/{letter_id}",
        "post /api/dead-letters/{letter_id}/retry",
        "get /api/projections",
        "post /api/projections/{name}/replay",
        "post /api/projections/{name}/rollback",
        "get /api/projections/{name}/parked",
        "post /api/projections/{name}/parked/{key}/retry",
        "get /api/users/watchlists",
        "post /api/users/watchlists",
        "get /api/users/watchlists/{list_id}",
        "put /api/users/watchlists/{list_id}",
        "delete /api/users/watchlists/{list_id}",
        "get /api/users/filter-presets",
        "post /api/users/filter-presets",
        "get /api/users/filter-presets/{list_id}",
        "put /api/users/filter-presets/{list_id}",
        "delete /api/users/filter-presets/{list_id}",
        "get /api/dashboard/stats",
        "get /api/symbols",
        "get /api/symbols/{symbol}",
        "get /api/users/universe",
        "get /api/users/universe/{key}",
        "get /api/health",
        "get /api/health/live",
        "get /api/health/ready",
        "get /api/pattern-discovery/health",
        "get /api/pattern-discovery/performance",
        "get /metrics",
        "get /openapi.json",
        "get /api/read-models",
        *(
            f"get /api/read-models/{name}{path}"
            for name, projection in READ_MODELS.items()
            if projection.scope
            for path in ("", f"/{{{projection.key}}}", "/counts/{count}")
        ),
    }
    ids = [methods[method]["operationId"] for methods in document["paths"].values() for method in methods]
    assert len(set(ids)) == len(ids)
