"""``tickview workspaces import`` on real servers: every list of the platform becomes events, once."""

from subprocess import CompletedProcess
from typing import Any

import orjson
import psycopg
import pytest
from redis import Redis

from domain.workspace import Stamp, Workspace
from infra.log.event_log import EventLog
from infra.workspaces.repository import WorkspaceRepository
from tests.integration.test_platform_universes import SCHEMA
from tests.processes.roles import tickview

LISTS = """
INSERT INTO user_watchlists (user_id, name, symbols, filters, created_at) VALUES
 ('default_user', 'Tech', '{aapl,MSFT,AAPL}', '{}', '2025-09-04 16:00:00'),
 ('default_user', 'tech', '{}', '{"confidence_min": 0.7, "timeframe": "All", "limit": 500, "sector": "all"}',
  '2025-09-04 16:00:01'),
 ('alice', 'Broken', '{"a b"}', '{}', NULL),
 ('two words', 'Any', '{AAPL}', NULL, NULL);
CREATE TABLE user_filter_presets (id SERIAL PRIMARY KEY, user_id TEXT, name TEXT, filters JSONB, is_default BOOLEAN,
  created_at TIMESTAMP);
INSERT INTO user_filter_presets (user_id, name, filters, is_default, created_at) VALUES
 ('alice', 'Strong', '{"rs_min": 1.2, "rsi_range": [30, 70], "pattern_types": ["Doji"]}', true, '2025-09-04 16:00:00');
"""


@pytest.fixture
def platform_url(database_url: str) -> str:
    with psycopg.connect(database_url) as connection:
        connection.execute(SCHEMA)
        connection.execute(LISTS)
    return database_url


def run_import(redis_url: str, dsn: str, *arguments: str) -> CompletedProcess[bytes]:
    return tickview("workspaces", "import", *arguments, redis_url=redis_url, catalogue_dsn=dsn)


def import_json(redis_url: str, dsn: str, *arguments: str) -> dict[str, Any]:
    completed = run_import(redis_url, dsn, "--json", *arguments)
    assert completed.returncode == 3, completed.stderr
    result: dict[str, Any] = orjson.loads(completed.stdout)
    return result


def test_every_list_is_imported_once_and_changes_of_its_user_stay(
    redis: Redis, redis_url: str, platform_url: str
) -> None:
    workspaces = WorkspaceRepository(EventLog(redis, "users"), "cli")
    dry_run = import_json(redis_url, platform_url, "--dry-run")
    assert workspaces.load("default_user").version == 0
    first = import_json(redis_url, platform_url)
    assert first == {**dry_run, "dry_run": False}
    assert (first["watchlists"], first["presets"], first["known"]) == (2, 2, 0)
    assert [refused["where"] for refused in first["refused"]] == ["user_watchlists id 4", "user_watchlists id 3"]

    workspace = workspaces.load("default_user")
    tech, named_alike = workspace.watchlists.values()
    assert (tech.name, tech.symbols, tech.created_at) == ("Tech", ("AAPL", "MSFT"), 1_757_001_600.0)
    assert (named_alike.name, named_alike.symbols) == ("tech (2)", ())
    [preset] = workspace.presets.values()
    assert preset.parameters == {"confidence_min": 0.7, "per_page": 100, "watchlist": named_alike.id}
    alice = workspaces.load("alice")
    [strong] = alice.presets.values()
    assert strong.parameters == {"rs_min": 1.2, "rsi_range": [30.0, 70.0], "pattern_types": ["Doji"]}
    assert alice.default_preset == strong.id

    def change(workspace: Workspace) -> None:
        stamp = Stamp("default_user", 1_757_001_700.0)
        workspace.change_watchlist(stamp, tech.id, "Changed", None)
        workspace.delete_watchlist(stamp, named_alike.id)

    workspaces.execute("default_user", change)
    second = import_json(redis_url, platform_url)
    assert (second["watchlists"], second["presets"], second["known"]) == (0, 0, 4)
    assert [watchlist.name for watchlist in workspaces.load("default_user").watchlists.values()] == ["Changed"]


def test_the_lists_of_a_forgotten_user_are_not_imported(redis_url: str, platform_url: str) -> None:
    import_json(redis_url, platform_url)
    forgotten = tickview("users", "forget", "default_user", "--yes", redis_url=redis_url)
    assert forgotten.returncode == 0, forgotten.stderr
    result = import_json(redis_url, platform_url)
    assert (result["watchlists"], result["presets"]) == (0, 0)
    assert [refused["reason"] for refused in result["refused"]].count("default_user was forgotten") == 3


def test_import_without_a_database_names_the_settings(redis_url: str) -> None:
    completed = tickview("workspaces", "import", redis_url=redis_url)
    assert (completed.returncode, b"TICKSTOCK_DB_HOST" in completed.stderr) == (1, True)
