"""``tickview users``: forget the lists of a user."""

import time
from dataclasses import asdict
from typing import Annotated

import typer

from domain.streams import USERS_LOG
from domain.workspace import Stamp
from infra.cli.errors import CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import open_database, open_logs, open_stores, postgres_dsn
from infra.log.maintenance import log_state
from infra.operations.journal import local_operator
from infra.plugins import configure
from infra.workspaces.forgetting import forget_user

app = typer.Typer(help="Forget the watchlists and filter presets of a user.", no_args_is_help=True)

COLUMNS = ("user", "encrypted_events", "plain_events", "generation", "position")


@app.callback()
def users() -> None:
    """Forget the watchlists and filter presets of a user."""


@app.command()
def forget(
    user: Annotated[str, typer.Argument(help="Id of the user, which is the subject of the user's token.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the key of the user is destroyed.")] = False,
    json: JsonOption = False,
) -> None:
    """Destroy the key of a user, so that nobody can read the events of the user's lists any more.

    The command cannot be undone. The user has no lists afterwards, and can create new ones. Repeat the command after a
    failure, and after a backup was restored.

    Example: tickview users forget alice --yes --json
    """
    settings = configure()
    stores = open_stores(settings)
    log = open_logs(stores, [USERS_LOG])[USERS_LOG]
    # Nothing must be forgotten in Redis alone: the archive would bring the key back.
    database = open_database(settings, writable=True) if postgres_dsn(settings) else None
    if database is None and log_state(log).archived:
        raise CommandError("The keys of users are also in the archive. Set TICKVIEW_POSTGRES_DSN to its database.")
    if not yes:
        typer.confirm(f"Destroy the lists of {user} and their history permanently?", abort=True, err=True)
    record_command(stores, "forget-user", user)
    stamp = Stamp(f"operator {local_operator().subject}", time.time())
    outcome = forget_user(stores.redis, log, database, user, stamp)
    document = asdict(outcome)
    if json:
        print_json(document)
        return
    print_table(COLUMNS, [document], "")
    if outcome.plain_events:
        console.print(
            f"{outcome.plain_events} events of {user} were recorded without encryption, and stay readable in the log "
            "and in the archive: see docs/privacy.md.",
            markup=False,
        )
    if not outcome.is_folded:
        console.print("No worker has folded this yet. The lists are erased, and workers find none when they run.")
