"""The installed wheel of TickView beside an application that has packages with the same names."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from readapi.console.files import FOLDER
from tests.processes.installation import PACKAGES, build_wheel, new_environment
from tests.processes.roles import wait_until
from tests.servers import world_readable_folder
from tests.tcp_ports import free_port

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with world_readable_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def environment(folder: Path) -> Path:
    return new_environment(folder / "environment", build_wheel(folder))


def application(folder: Path, packages: tuple[str, ...], code: str) -> Path:
    """Create packages with these names in the folder of an application. Return the folder."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(code)
    return folder


@contextmanager
def running_up(environment: Path, working_directory: Path, port: int) -> Iterator[Path]:
    """Run ``tickview up`` of an environment in a working directory. Yield the file with the output."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("TICKVIEW_", "PYTHON"))}
    variables |= {"TICKVIEW_PARTITIONS": "1", "TICKVIEW_API_PROCESSES": "1", "TICKVIEW_VERIFY_EVERY": "1"}
    output = working_directory / "output"
    command = [str(environment / "bin/tickview"), "up", "--port", str(port)]
    with output.open("wb") as stdout:
        process = subprocess.Popen(
            command, cwd=working_directory, env=variables, stdout=stdout, stderr=subprocess.STDOUT
        )
    try:
        yield output
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        assert process.wait(timeout=20) == 0
        _, alive = psutil.wait_procs(children, timeout=5)
        assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            children = psutil.Process(process.pid).children(recursive=True)
            for child in (process, *children):
                child.kill()
            process.wait()


def get(port: int, path: str) -> Any:
    """Return the JSON of a response with status 200; None for another status and without a response."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return json.loads(response.read()) if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def test_up_starts_every_role_beside_equally_named_packages(folder: Path, environment: Path) -> None:
    code = "raise RuntimeError('a package of the application was imported')"
    port = free_port()
    # Child processes of multiprocessing would import a package with that name from the working directory.
    working_directory = application(folder / "application", (*PACKAGES, "multiprocessing"), code)
    with running_up(environment, working_directory, port) as output:
        wait_until(lambda: "the API answers at" in output.read_text(), "the API answers")
        wait_until(lambda: get(port, "/api/health"), "the API is healthy")
        # The archiver verifies in a child process.
        wait_until(lambda: (get(port, "/api/audit/verification") or {}).get("verification"), "the archive is verified")
        assert "starting it again" not in output.read_text()
        logs = "\n".join(log.read_text() for log in (working_directory / ".tickview/logs").glob("*.log"))
        assert "a package of the application" not in logs


def test_the_wheel_contains_every_file_of_the_console(environment: Path) -> None:
    [installed] = environment.glob("lib/python*/site-packages/readapi/console/static")
    files = {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file()}
    assert files
    assert {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()} == files


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("domain", "import infra.eventlog"),
        ("domain", "import projections"),
        ("domain", "import readapi"),
        ("projections", "import infra.eventlog"),
        ("readapi", "import infra.eventlog"),
        ("infra", "import readapi; readapi.create_app()"),
    ],
)
def test_import_error_names_the_package_of_the_application(
    tmp_path: Path, environment: Path, package: str, code: str
) -> None:
    working_directory = application(tmp_path, (package,), "")
    # With -c, the working directory comes first on the module search path.
    completed = subprocess.run(
        [environment / "bin/python", "-c", code], cwd=working_directory, capture_output=True, text=True
    )
    assert completed.returncode == 1
    assert completed.stderr.splitlines()[-1] == (
        f"ImportError: TickView needs its own package '{package}', but "
        f"{working_directory}/{package}/__init__.py was imported. "
        "Rename that package, or run TickView in an environment of its own."
    )
