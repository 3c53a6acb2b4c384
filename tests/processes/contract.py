"""The whole service with some content, and schemathesis, which holds it to its OpenAPI document."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from infra.access.tokens import create_token
from readapi.http.identities import SCOPES
from tests import servers
from tests.processes.api_service import detection, post, service
from tests.processes.roles import running_role, tickview

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parent.parent
CATALOGUE = REPOSITORY / "infra" / "demo" / "catalogue"
CATALOGUE_OPTIONS = ("--symbols", str(CATALOGUE / "symbols.csv"), "--universes", str(CATALOGUE / "universes.json"))


@contextmanager
def service_with_content(postgres_dsn: str, folder: Path) -> Iterator[httpx.Client]:
    """Run the service with patterns, a dead letter and a catalogue. Yield a client with all scopes."""
    tokens_file = folder / "tokens.json"
    token, _ = create_token(tokens_file, "anna", SCOPES, None)
    with servers.valkey() as server, servers.new_database(postgres_dsn) as dsn, ExitStack() as stack:
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


def run_schemathesis(client: httpx.Client, *options: str, seconds: float) -> str:
    """Let schemathesis send valid and invalid requests, and check that it finds no contradiction.

    Args:
        client: A client of the service.
        options: Further options of the command.
        seconds: Seconds after which schemathesis must have ended.

    Returns:
        The report.
    """
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(FOLDER / "schemathesis.toml")),
        *("run", f"{client.base_url}/openapi.json", *options),
        *("--header", f"Authorization: {client.headers['Authorization']}"),
        # The streams never end. tests/integration/test_push_server.py tests them.
        *("--exclude-path", "/api/patterns/stream"),
        *("--exclude-path", "/api/stream"),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.processes.schemathesis_hooks", "PYTHONPATH": "."}
    result = subprocess.run(
        command, env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    # schemathesis counts all operations except the one that returns the document. The streams are excluded above.
    assert "73 selected / 75 total" in result.stdout
    return result.stdout
