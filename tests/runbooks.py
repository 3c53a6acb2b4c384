"""The runbooks of docs/operations.md: their commands with the outputs of the page, and a shell that executes them."""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from tests.operations_page import OPERATIONS
from tests.tutorials import Command, Shell, steps_of

FIRST_LOOK = "First look"
"""The runbook that defines the commands of the others. It holds for a healthy service."""

_NO_ACTIONS: Mapping[str, Callable[[], object]] = MappingProxyType({})


def sections() -> dict[str, str]:
    """Return the text below each heading of the page."""
    found = re.findall(r"^##+ (.*)\n((?:(?!##).*\n)*)", OPERATIONS, re.MULTILINE)
    return dict(found)


def executable_sections() -> Iterator[str]:
    """Yield the headings of the page whose text has commands with their outputs."""
    return (heading for heading, text in sections().items() if any(steps_of(text)))


def execute(heading: str, shell: Shell, before: Mapping[str, Callable[[], object]] = _NO_ACTIONS) -> None:
    """Execute the commands of a runbook. Each has the output of the page.

    Args:
        heading: The heading of the runbook.
        shell: The shell of the commands.
        before: The beginning of a command -> what an operator does before it, beside the commands.
    """
    for step in steps_of(sections()[heading]):
        assert isinstance(step, Command)
        for beginning, action in before.items():
            if step.command.startswith(beginning):
                action()
        step.run(shell)
