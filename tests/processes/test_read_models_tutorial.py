"""The tutorial ``docs/read-models.md``, executed from its own text with ``tickview up``."""

import os
import sys
from pathlib import Path

import pytest

from tests.servers import world_readable_folder
from tests.tcp_ports import free_port
from tests.tutorials import open_shell, run_page
from tests.unit.test_docs import ROOT


@pytest.mark.timeout(300)
def test_the_tutorial_holds() -> None:
    port = str(free_port())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TICKVIEW_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # A second API process and the daily verification take processor time. The page is about neither of them.
    fewer = {"TICKVIEW_API_PROCESSES": "1", "TICKVIEW_VERIFY_EVERY": "0"}
    variables = {**inherited, **fewer, "PATH": path, "TICKVIEW_PORT": port, "COLUMNS": "200"}
    page = (ROOT / "docs" / "read-models.md").read_text()
    with world_readable_folder() as folder, open_shell(folder, variables) as shell:
        run_page(page, shell, {"127.0.0.1:8000": f"127.0.0.1:{port}"})
