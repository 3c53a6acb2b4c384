"""The plug-in of ``docs/plugins.md``: its files, its commands, and an environment in which they work."""

import shlex
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tests.processes.installation import CHECKOUT
from tests.processes.roles import stop
from tests.tutorials import Command, File, steps_of

PAGE = (CHECKOUT / "docs" / "plugins.md").read_text()


def files_of_the_page() -> dict[str, str]:
    """Return the content of each file by its path, which the first line of its block names."""
    return {step.path: step.content for step in steps_of(PAGE) if isinstance(step, File)}


def commands_of(heading: str) -> list[Command]:
    """Return the commands below a heading of the page, each with its output."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [step for step in steps_of(section) if isinstance(step, Command)]


@dataclass(frozen=True)
class Installation:
    """An environment with TickView and the plug-in, the source of the plug-in, and the environment variables."""

    environment: Path
    source: Path
    variables: Mapping[str, str]

    def run(self, commands: str) -> subprocess.CompletedProcess[str]:
        """Run commands of a shell in the folder of the plug-in."""
        return subprocess.run(
            ["bash", "-c", commands], cwd=self.source, env=self.variables, capture_output=True, text=True, check=False
        )

    def tickview(self, *arguments: str) -> Any:
        """Run a command with ``--json`` and return its output."""
        completed = self.run(shlex.join(["tickview", *arguments, "--json"]))
        assert completed.returncode == 0, completed.stderr
        return orjson.loads(completed.stdout)

    def with_variables(self, **variables: str) -> "Installation":
        """Return the installation with more environment variables."""
        return Installation(self.environment, self.source, {**self.variables, **variables})

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a role until the context ends."""
        process = subprocess.Popen([self.environment / "bin/tickview", *arguments], cwd=self.source, env=self.variables)
        try:
            yield process
        finally:
            stop(process)


def run_commands(installation: Installation, heading: str) -> None:
    """Run the commands below a heading of the page. Each of them has the output of the page, except for blank lines."""
    for command, output in commands_of(heading):
        completed = installation.run(command)
        lines = [line for line in completed.stdout.splitlines() if line]
        assert (completed.returncode, lines) == (0, output.splitlines()), completed.stderr
