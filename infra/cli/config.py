"""``tickview config``: the settings in effect and the source of each."""

import sys
from typing import Annotated

import typer

from infra.cli.output import JsonOption, print_json, print_table
from infra.cli.settings_page import render_markdown, settings_in_effect
from infra.settings import Settings


def config(
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the documentation page of all settings.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Print the settings in effect and the source of each. Secrets are hidden.

    Example: TICKVIEW_PORT=9000 tickview config
    """
    if as_markdown:
        sys.stdout.write(render_markdown())
        return
    settings = [setting._asdict() for setting in settings_in_effect(Settings())]
    if json:
        print_json({"settings": settings})
    else:
        print_table(("variable", "value", "source"), settings, "no settings")
