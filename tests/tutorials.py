"""Tutorials: pages of the documentation that a test executes from their own text, from top to bottom.

Each fenced block is a step:

- A block whose first line is ``# path`` writes the file of this path.
- A block ``diff`` whose first line is ``# path`` changes this file. Each hunk begins with a line ``@@``. Its lines with
  a space or ``-`` must be in the file exactly once, and its lines with a space or ``+`` replace them.
- A block ``console`` has commands, each after ``$ `` and followed by its output. ``…`` in the output stands for any
  text, also of several lines. All commands run in one shell.

Other blocks only explain.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

DEADLINE_SECONDS = 60.0
"""Seconds for which a command that only reads is repeated until its output is that of the page."""

_READING = ("curl ", "health", "tickview query ", "tickview projections", "tickview status")
"""How commands begin that only read. The service may need a moment until their output is that of the page."""

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_FILE = re.compile(r"# (\S+)\n(.*)", re.DOTALL)
_END_OF_OUTPUT = "--- end of output, exit code "


class File(NamedTuple):
    """A step that writes a file."""

    path: str
    content: str

    def run(self, shell: "Shell") -> None:
        """Write the file."""
        path = shell.folder / self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.content)


class Change(NamedTuple):
    """A step that changes a file."""

    path: str
    hunks: Sequence[str]

    def run(self, shell: "Shell") -> None:
        """Change the file."""
        path = shell.folder / self.path
        content = path.read_text()
        for hunk in self.hunks:
            lines = hunk.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if not line.startswith("+"))
            new = "".join(line[1:] for line in lines if not line.startswith("-"))
            assert content.count(old) == 1, f"{self.path} has these lines {content.count(old)} times:\n{old}"
            content = content.replace(old, new)
        path.write_text(content)


class Command(NamedTuple):
    """A step that runs a command."""

    command: str
    output: str

    def run(self, shell: "Shell") -> None:
        """Run the command until its output is that of the page. Only a command that only reads runs more than once."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not matches(actual := shell.run(self.command), self.output):
            is_final = not self.command.startswith(_READING) or time.monotonic() > deadline
            assert not is_final, f"$ {self.command}\n{actual}\nThe page has:\n{self.output}"
            time.sleep(0.2)


Step = File | Change | Command


def steps_of(page: str) -> Iterator[Step]:
    """Yield the steps of a page in order."""
    for language, content in _BLOCK.findall(page):
        file = _FILE.fullmatch(content)
        if language == "console":
            yield from (Command(command, output) for command, output in _COMMAND.findall(content))
        elif file and language == "diff":
            _, *hunks = re.split(r"^@@.*\n", file[2], flags=re.MULTILINE)
            yield Change(file[1], hunks)
        elif file:
            yield File(file[1], file[2])


def matches(output: str, expected: str) -> bool:
    """Return whether an output is that of a page. Blank lines and the ends of lines do not count."""
    lines, pattern = (
        "\n".join(line.rstrip() for line in text.splitlines() if line.strip()) for text in (output, expected)
    )
    return re.fullmatch(".*".join(map(re.escape, pattern.split("…"))), lines, re.DOTALL) is not None


class Shell:
    """A shell in a folder, whose commands run one after another."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder = folder
        self._process = process

    def run(self, command: str) -> str:
        """Run a command and return its output, that of the standard error included."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f'{command}\nprintf "\\n{_END_OF_OUTPUT}%s\\n" "$?"\n')
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(_END_OF_OUTPUT):
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"The shell ended: $ {command}\n{''.join(lines)}")


@contextmanager
def open_shell(folder: Path, variables: Mapping[str, str]) -> Iterator[Shell]:
    """Open a shell in a folder with these environment variables. At the end, stop its background processes."""
    process = subprocess.Popen(
        ["bash", "--noprofile", "--norc"],
        cwd=folder,
        env=dict(variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield Shell(folder, process)
        finally:
            process.communicate("kill $(jobs -p); wait\n", timeout=DEADLINE_SECONDS)


def run_page(page: str, shell: Shell, replacements: Mapping[str, str]) -> None:
    """Execute a page.

    Args:
        page: The text of the page.
        shell: The shell of all commands. Files are written in its folder.
        replacements: Texts of the page and what replaces them, such as a port and a free port.
    """
    for text, replacement in replacements.items():
        assert text in page
        page = page.replace(text, replacement)
    for step in steps_of(page):
        step.run(shell)
