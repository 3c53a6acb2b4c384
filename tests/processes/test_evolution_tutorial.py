"""``docs/evolution.md``, executed from its text: a change of events and of a read model, deployed and taken back.

The old release is a copy of the checkout. The new release is another copy, in which the page is followed.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

import httpx
import pytest

from domain.events import PatternDetected
from tests import servers
from tests.plain_http import PLAIN_HTTP
from tests.processes.api_service import api_responds, detection, post
from tests.processes.archiving_service import wait_until_archived
from tests.processes.installation import CHECKOUT, OFFLINE, PACKAGES
from tests.processes.push_clients import receive, receive_changes, websocket
from tests.processes.roles import WITHOUT_SCHEDULE, stop, wait_until
from tests.tcp_ports import free_port
from tests.tutorials import Shell, open_shell, run_page

PAGE = (CHECKOUT / "docs" / "evolution.md").read_text()

DETECTIONS, WITH_VENUE = 200, 20
"""The number of detections, and of those with a venue, that the old release records."""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif("venue" in PatternDetected.model_fields, reason="the page was followed in this checkout"),
]


def follow(section: int, shell: Shell, port: int = 8000) -> None:
    """Execute a section of the page. ``port`` replaces the port of the API."""
    [text] = re.findall(rf"^## {section}\. .*?(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    run_page(text.replace("127.0.0.1:8000", f"127.0.0.1:{port}"), shell, {})


def copy_checkout(folder: Path) -> Path:
    """Copy what the tests and the wheel need, and the compiled modules, which Python uses for unchanged files."""
    for package in (*PACKAGES, "tests"):
        shutil.copytree(CHECKOUT / package, folder / package)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / file, folder)
    return folder


def product_files(folder: Path) -> dict[str, str]:
    """Return the texts of all modules of a release by path, without the tests."""
    files = (file for package in PACKAGES for file in (folder / package).rglob("*.py"))
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def variables_of(release: Path, **settings: Any) -> dict[str, str]:
    """Return the environment variables with which Python imports a release. Settings are without ``TICKVIEW_``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TICKVIEW_", "PYTEST_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(release), "HYPOTHESIS_PROFILE": "quick", "COLUMNS": "140"}
    return inherited | OFFLINE | own | {f"TICKVIEW_{name.upper()}": str(value) for name, value in settings.items()}


@contextmanager
def running(role: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Run a role of a release until the context ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.cli", role], cwd=variables["PYTHONPATH"], env=variables, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        stop(process)


@contextmanager
def client_of(port: int) -> Iterator[httpx.Client]:
    """Wait for the API at a port, and yield its client."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, verify=PLAIN_HTTP) as client:
        wait_until(lambda: api_responds(client), "the API answers")
        yield client


class Releases(NamedTuple):
    """The folders of both releases, and the modules of the new one before and after the change of the read model."""

    old: Path
    new: Path
    before: Mapping[str, str]
    after: Mapping[str, str]


@pytest.fixture(scope="module")
def releases() -> Iterator[Releases]:
    """Both releases. The page was followed up to the deploy, tests and wheel included."""
    with servers.world_readable_folder() as folder:
        old, new = copy_checkout(folder / "old"), copy_checkout(folder / "new")
        with open_shell(new, variables_of(new)) as shell:
            follow(1, shell)
            before = product_files(new)
            follow(2, shell)
        yield Releases(old, new, before, product_files(new))


def test_a_new_column_changes_two_files(releases: Releases) -> None:
    """One is the copy of the former projection."""
    changed = {path for path, text in releases.after.items() if releases.before.get(path) != text}
    assert changed == {"projections/patterns.py", "projections/previous/patterns_v2.py"}


def test_the_wheel_has_the_former_projection(releases: Releases) -> None:
    [wheel] = (releases.new / "dist").glob("*.whl")
    installed = releases.new / "installed"
    ZipFile(wheel).extractall(installed)
    code = "from projections.registry import FORMER; print(*((each.name, each.version) for each in FORMER))"
    command = [sys.executable, "-P", "-c", code]
    former = subprocess.run(command, env=variables_of(installed), cwd=installed, capture_output=True, text=True)
    assert (former.returncode, former.stdout) == (0, "('patterns', 2) ('producers', 1)\n"), former.stderr


def record_under_the_old_release(client: httpx.Client) -> None:
    """Record detections in ``extra`` of which some have a venue."""
    venues = ({"venue": "XNAS"} if number < WITH_VENUE else {} for number in range(DETECTIONS))
    header = post(client, [detection(f"S{number}", pattern="Doji", **venue) for number, venue in enumerate(venues)])
    response = client.get("/api/patterns/scan", headers=header)
    assert response.json()["pagination"]["total"] == DETECTIONS
    wait_until_archived(client)


def test_the_new_release_replaces_the_old_one_and_rolls_back(releases: Releases, postgres_18_dsn: str) -> None:
    old_port, port, redis_only_port = (free_port() for _ in range(3))
    with (
        servers.valkey() as server,
        servers.new_database(postgres_18_dsn) as dsn,
        ExitStack() as old_roles,
        ExitStack() as new_roles,
    ):
        stores = {
            "redis_url": server.connection_url,
            "postgres_dsn": dsn,
            "api_processes": 1,
            "lease_seconds": 2,
            **WITHOUT_SCHEDULE,
        }
        old = variables_of(releases.old, port=old_port, **stores)
        for role in ("project", "archive", "serve"):
            old_roles.enter_context(running(role, old))
        old_client = old_roles.enter_context(client_of(old_port))
        record_under_the_old_release(old_client)
        new = variables_of(releases.new, port=port, **stores)
        shell = new_roles.enter_context(open_shell(releases.new, new))
        follow(3, shell)
        wait_until(lambda: scan(old_client)["cache_info"]["build"] == "3.2", "the old API follows the switch")
        assert scan(old_client)["pagination"]["total"] == DETECTIONS
        old_roles.close()
        follow(4, shell, port)
        without_replica = variables_of(releases.new, **{**stores, "port": redis_only_port, "replica_max_rows": 0})
        new_roles.enter_context(running("serve", without_replica))
        client, redis_client = (new_roles.enter_context(client_of(each)) for each in (port, redis_only_port))
        assert_every_answer_has_the_column(client, redis_client)
        follow(5, shell)
        wait_until(lambda: venues(client) == ["XNAS"] * WITH_VENUE + ["XNYS"], "the second rollback leads to 3.2")
        shell.run("tickview rollback patterns")
        for each in (client, redis_client):
            wait_until(lambda each=each: scan(each)["cache_info"]["build"] == "2.1", "the rollback leads to 2.1")
            assert scan(each)["pagination"]["total"] == DETECTIONS + 1
        assert "no row has venue=XNAS" in scan(client, venue="XNAS")["hint"]
        refused = redis_client.get("/api/patterns/scan?sort_by=venue")
        assert (refused.status_code, "build 2.1 of patterns" in refused.json()["detail"]) == (503, True)


def scan(client: httpx.Client, **parameters: Any) -> Any:
    """Scan the patterns in their full form. Return the JSON."""
    response = client.get("/api/patterns/scan", params={"fields": "full", "per_page": 100, **parameters})
    assert response.status_code == 200, response.text
    return response.json()


def venues(client: httpx.Client, **parameters: Any) -> list[str]:
    """Return the venues of the scan that filters and sorts by venue."""
    return [
        row["venue"]
        for row in scan(client, venue="xnas,xnys", sort_by="venue", sort_order="asc", **parameters)["patterns"]
    ]


def assert_every_answer_has_the_column(client: httpx.Client, redis_client: httpx.Client) -> None:
    """Record an event with a venue. Filter and sort by venue in memory, in Redis, as of a moment and in push."""
    expected = ["XNAS"] * WITH_VENUE
    with websocket(client, "/ws?topics=patterns&venue=xnys&fields=full") as pushed:
        assert receive(pushed)["type"] == "ready"
        before = time.time()
        header = post(client, [detection("PUSHED", venue="XNYS"), detection("ELSEWHERE", venue="XOFF", confidence=0.1)])
        [change] = receive_changes(pushed)["changes"]
    assert (change["op"], change["pattern"]["symbol"], change["pattern"]["venue"]) == ("set", "PUSHED", "XNYS")
    for each, source in ((client, "replica"), (redis_client, "redis")):
        wait_until(lambda each=each: len(venues(each)) > WITH_VENUE, "the event is folded")
        answer = scan(each, venue="xnys")
        assert (answer["performance"]["source"], answer["patterns"][0]["extra"]) == (source, {})
        assert venues(each) == [*expected, "XNYS"]
    assert client.get("/api/patterns/scan?as_of=5", headers=header).status_code == 200
    assert venues(client, as_of=before) == expected
    assert venues(client, as_of=time.time()) == [*expected, "XNYS"]
    rows = client.get("/api/read-models/patterns?venue=XNYS&sort_by=venue").json()["rows"]
    assert [(row["symbol"], row["venue"]) for row in rows] == [("PUSHED", "XNYS")]
    for path in ("/api/patterns/scan", "/api/read-models/patterns", "/api/stream"):
        parameters = client.get("/openapi.json").json()["paths"][path]["get"]["parameters"]
        assert "venue" in {parameter["name"] for parameter in parameters}
