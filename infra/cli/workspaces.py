"""``tickview workspaces``: show, restore and import the watchlists and filter presets of users."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from domain.list_rules import WorkspaceError
from domain.lists import Preset, Watchlist
from domain.streams import USERS_LOG
from domain.workspace import Stamp, Workspace
from infra.catalogue.platform_source import open_platform
from infra.cli.errors import NEGATIVE_OUTCOME, CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import Stores, open_logs, open_stores
from infra.operations.journal import local_operator
from infra.plugins import configure
from infra.workspaces.platform_lists import import_lists, read_platform_lists
from infra.workspaces.repository import ConflictError, UnreadableEventError, WorkspaceRepository

app = typer.Typer(help="Show, restore and import the watchlists and filter presets of users.", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="Id of the user, which is the subject of the user's token.")]

COLUMNS = ("kind", "id", "name", "version", "updated_at", "content", "state")


@app.command()
def show(user: User, json: JsonOption = False) -> None:
    """Show the watchlists and presets of a user, including deleted lists.

    Example: tickview workspaces show alice --json
    """
    workspaces = _open_repository(open_stores(configure()))
    try:
        workspace, deleted = workspaces.load(user), workspaces.deleted_lists(user)
    except UnreadableEventError as error:
        raise CommandError(str(error)) from error
    watchlists, presets = list(workspace.watchlists.values()), list(workspace.presets.values())
    if json:
        print_json(
            {
                "user": user,
                "version": workspace.version,
                "watchlists": list(map(asdict, watchlists)),
                "presets": list(map(asdict, presets)),
                "default_preset": workspace.default_preset,
                "deleted": list(map(asdict, deleted.values())),
            }
        )
    else:
        rows = [_row(user_list, workspace) for user_list in (*watchlists, *presets, *deleted.values())]
        print_table(COLUMNS, rows, f"{user} has never had a watchlist or a preset")


@app.command()
def restore(
    user: User,
    list_id: Annotated[str, typer.Argument(help="Id of the deleted list. `tickview workspaces show USER` prints it.")],
    name: Annotated[str | None, typer.Option(help="New name, needed if another list has the old name.")] = None,
    json: JsonOption = False,
) -> None:
    """Restore a deleted watchlist or preset. The restoration is recorded as an event with your name.

    Example: tickview workspaces restore alice 5f2e8f0c6b7d4f9d8f1f0a3c5e7b9d1f
    """
    operator = local_operator()
    stamp = Stamp(f"operator {operator.subject}", time.time())
    stores = open_stores(configure())
    workspaces = _open_repository(stores)
    try:
        deleted_list = workspaces.deleted_lists(user).get(list_id)
        if deleted_list is None:
            raise CommandError(
                f"{list_id} is not a deleted list of {user}. "
                f"`tickview workspaces show {user}` prints the deleted lists."
            )
        record_command(stores, "restore-list", list_id, {"user": user})
        workspace, _ = workspaces.execute(
            user, lambda workspace: workspace.restore(stamp, deleted_list, name), operator
        )
    except (WorkspaceError, ConflictError, UnreadableEventError) as error:
        raise CommandError(f"{list_id} of {user} cannot be restored: {error}") from error
    restored: Any = workspace.get(list_id)
    if json:
        print_json(asdict(restored))
    else:
        console.print(f"{restored.name} of {user} is restored, at version {restored.version}", markup=False)


@app.command("import")
def import_(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the result and record nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Take over the watchlists and presets of all users from the platform's PostgreSQL database.

    Each list becomes an event with the time of its creation. A list that was imported before stays as it is, even if
    its user has changed or deleted it since. Exit code 3: some rows were refused, all other lists were recorded.

    Example: TICKSTOCK_DB_HOST=db tickview workspaces import --dry-run
    """
    operator = local_operator()
    settings = configure()
    if settings.catalogue_dsn is None:
        raise CommandError("Set TICKVIEW_CATALOGUE_DSN, TICKSTOCK_DB_HOST or DATABASE_URI to the platform's database.")
    stores = open_stores(settings)
    workspaces = _open_repository(stores)
    with open_platform(settings.catalogue_dsn) as connection:
        lists = list(read_platform_lists(connection))
    if not dry_run:
        record_command(stores, "import-lists", "workspaces", {"lists": len(lists)})
    try:
        report = import_lists(workspaces, iter(lists), operator, time.time(), dry_run=dry_run)
    except (ConflictError, UnreadableEventError) as error:
        raise CommandError(f"The lists cannot be imported: {error}. Run the command again.") from error
    if json:
        refused = [{"where": where, "reason": reason} for where, reason in report.refused]
        print_json({**asdict(report), "refused": refused, "dry_run": dry_run})
    else:
        imported = f"{report.watchlists:,} watchlists and {report.presets:,} presets imported"
        console.print(f"{imported}, {report.known:,} lists known from an earlier import", highlight=False)
        for where, reason in report.refused:
            console.print(f"refused    {where}: {reason}", markup=False, highlight=False)
        if dry_run:
            console.print("nothing was recorded, because of --dry-run")
    if report.refused:
        raise typer.Exit(NEGATIVE_OUTCOME)


def _open_repository(stores: Stores) -> WorkspaceRepository:
    log = open_logs(stores, [USERS_LOG])[USERS_LOG]
    return WorkspaceRepository(log, "cli")


def _row(user_list: Watchlist | Preset, workspace: Workspace) -> dict[str, Any]:
    deleted, default = workspace.get(user_list.id) is None, user_list.id == workspace.default_preset
    return {
        "kind": "watchlist" if isinstance(user_list, Watchlist) else "preset",
        "id": user_list.id,
        "name": user_list.name,
        "version": user_list.version,
        "updated_at": iso(user_list.updated_at),
        "content": (
            f"{len(user_list.symbols)} symbols" if isinstance(user_list, Watchlist) else ", ".join(user_list.parameters)
        ),
        "state": "deleted" if deleted else "default" if default else None,
    }
