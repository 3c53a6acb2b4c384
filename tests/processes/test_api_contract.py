"""The OpenAPI document of the real service: schemathesis sends valid and invalid requests and checks the responses."""

from collections.abc import Iterator

import httpx
import pytest

from projections.registry import READ_MODELS
from tests.processes.contract import run_schemathesis, service_with_content


@pytest.fixture(scope="module")
def client(postgres_18_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with service_with_content(postgres_18_dsn, tmp_path_factory.mktemp("contract")) as client:
        yield client


@pytest.mark.timeout(240)
def test_schemathesis_finds_no_contradiction(client: httpx.Client) -> None:
    run_schemathesis(client, "--max-examples", "10", seconds=230)


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
        "get /api/audit/patterns/{pattern_id}",
        "get /api/audit/lists/{list_id}",
        "get /api/audit/verification",
        "get /api/audit/verify",
        "post /api/audit/verify",
        "get /api/audit/head",
        "get /api/audit/check",
        "post /api/audit/check",
        "post /api/events",
        "get /api/dead-letters",
        "get /api/dead-letters/{letter_id}",
        "delete /api/dead-letters/{letter_id}",
        "post /api/dead-letters/{letter_id}/retry",
        "get /api/projections",
        "post /api/projections/{name}/replay",
        "get /api/projections/{name}/verify",
        "post /api/projections/{name}/verify",
        "post /api/projections/{name}/switch",
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
        "get /api/users/filter-presets/{list_id}/alert",
        "put /api/users/filter-presets/{list_id}/alert",
        "delete /api/users/filter-presets/{list_id}/alert",
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
