"""The wheel of TickView, and virtual environments in which it is installed. Nothing is downloaded."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = ("domain", "infra", "projections", "readapi")

CHECKOUT = Path(__file__).parents[2]

OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""Environment variables with which pip neither downloads anything nor creates an environment for a build.

pip reads ``PIP_NO_BUILD_ISOLATION=0`` as the option ``--no-build-isolation``.
"""


def build_wheel(folder: Path) -> Path:
    """Build the wheel of TickView in a folder and return its path."""
    source = folder / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for package in PACKAGES:
        shutil.copytree(CHECKOUT / package, source / package, ignore=ignored)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / file, source)
    pip("wheel", "--quiet", "--wheel-dir", str(folder), str(source))
    [wheel] = folder.glob("tickview-*.whl")
    return wheel


def new_environment(folder: Path, wheel: Path) -> Path:
    """Create a virtual environment with the wheel. All other packages come from the environment of the tests."""
    venv.create(folder, with_pip=False, symlinks=True)
    pip("--python", str(folder / "bin/python"), "install", "--quiet", str(wheel))
    [packages] = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "others.pth").write_text("\n".join(others))
    return folder


def pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments]
    completed = subprocess.run(command, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
