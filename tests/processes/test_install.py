"""The installed wheel works beside packages of the application that have the same names as TickView's packages."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.processes.roles import wait_until
from tests.servers import free_port

PACKAGES = ("domain", "infra", "projections", "readapi")

CHECKOUT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that PostgreSQL's own user can reach, which pytest's are not."""
    with tempfile.TemporaryDirectory(prefix="tickview-install-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def environment(folder: Path) -> Path:
    """A new virtual environment: TickView from its wheel, all other packages from the environment of the tests."""
    source, environment = folder / "source", folder / "environment"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, source / package, ignore=ignored)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / file, source)
    offline = ("--no-deps", "--no-index", "--quiet")
    pip("wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    [wheel] = folder.glob("tickview-*.whl")
    venv.create(environment, with_pip=False, symlinks=True)
    pip("--python", str(environment / "bin/python"), "install", *offline, str(wheel))
    [packages] = environment.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "others.pth").write_text("\n".join(others))
    return environment


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def application(folder: Path, packages: tuple[str, ...], code: str) -> Path:
    """The folder of an application that has packages of these names."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(code)
    return folder


@contextmanager
def running(environment: Path, working_directory: Path, port: int) -> Iterator[Path]:
    """``tickview up`` of an environment, in a working directory; yields the file of its output."""
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
    """The JSON of an answer with status 200; None for another status and for no answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return json.loads(answer.read()) if answer.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def test_up_starts_every_role_whatever_the_working_directory_contains(folder: Path, environment: Path) -> None:
    code = "raise RuntimeError('a package of the application was imported')"
    port = free_port()
    # A module of the standard library's name reaches the processes of multiprocessing, too.
    place = application(folder / "application", (*PACKAGES, "multiprocessing"), code)
    with running(environment, place, port) as output:
        wait_until(lambda: "the API answers at" in output.read_text(), "the API answers")
        wait_until(lambda: get(port, "/api/health"), "the API is healthy")
        # The archiver verifies in a process of its own.
        wait_until(lambda: (get(port, "/api/audit/verification") or {}).get("verification"), "the archive is verified")
        assert "starting it again" not in output.read_text()
        logs = "\n".join(log.read_text() for log in (place / ".tickview/logs").glob("*.log"))
        assert "a package of the application" not in logs


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
def test_a_package_of_the_application_with_the_same_name_is_named_in_one_line(
    tmp_path: Path, environment: Path, package: str, code: str
) -> None:
    place = application(tmp_path, (package,), "")
    # With -c, the working directory comes first on the module search path.
    done = subprocess.run([environment / "bin/python", "-c", code], cwd=place, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ImportError: TickView needs its own package '{package}', but {place}/{package}/__init__.py was imported. "
        "Rename that package, or run TickView in an environment of its own."
    )
