"""``tickview config``: the settings in effect, and where each came from."""

import sys
from typing import Annotated

import typer

from infra.cli.output import JsonOption, print_json, print_table
from infra.cli.settings_page import effective, markdown
from infra.settings import Settings


def config(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the page about all settings.")] = False,
    json: JsonOption = False,
) -> None:
    """The settings in effect, secrets hidden, and where each came from.

    Example: TICKVIEW_PORT=9000 tickview config
    """
    if as_markdown:
        sys.stdout.write(markdown())
        return
    settings = [one._asdict() for one in effective(Settings())]
    if json:
        print_json({"settings": settings})
    else:
        print_table(("variable", "value", "source"), settings, "no settings")
