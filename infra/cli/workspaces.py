"""``tickview workspaces``: show the watchlists and filter presets of a user, and restore deleted lists."""

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer

from domain.list_rules import WorkspaceError
from domain.lists import Preset, Watchlist
from domain.streams import USERS_LOG
from domain.workspace import Stamp, Workspace
from infra.cli.errors import CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import Stores, open_logs, open_stores
from infra.operations.journal import local_operator
from infra.plugins import configure
from infra.workspaces.repository import ConflictError, UnreadableEventError, WorkspaceRepository

app = typer.Typer(
    help="Show the watchlists and filter presets of a user, and restore deleted lists.", no_args_is_help=True
)

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
