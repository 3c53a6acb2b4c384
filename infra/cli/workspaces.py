"""``tickview workspaces``: what a user has, and lists that were deleted brought back."""

import getpass
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from eventsourcing.persistence import MapperDeserialisationError

from domain.list_rules import WorkspaceError
from domain.lists import Preset, Watchlist
from domain.streams import USERS_LOG
from domain.workspace import Stamp, Workspace
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import open_logs, open_stores
from infra.processes.errors import StartupError
from infra.settings import Settings
from infra.workspaces.repository import ConflictError, WorkspaceRepository

app = typer.Typer(help="Users' watchlists and filter presets: show, restore.", no_args_is_help=True)

User = Annotated[str, typer.Argument(help="The user's id: the subject of the user's token.")]

COLUMNS = ("kind", "id", "name", "version", "updated_at", "content", "state")


@app.command()
def show(user: User, json: JsonOption = False) -> None:
    """What a user has, and the lists that were deleted, from the log.

    Example: tickview workspaces show alice --json
    """
    workspaces = _open()
    try:
        workspace, deleted = workspaces.load(user), workspaces.deleted(user)
    except MapperDeserialisationError as error:
        raise StartupError(str(error)) from error
    kinds = [list(kept.values()) for kept in (workspace.watchlists, workspace.presets, deleted)]
    if json:
        watchlists, presets, lost = [[asdict(one) for one in kind] for kind in kinds]
        default = workspace.default_preset
        shown = {"user": user, "version": workspace.version, "watchlists": watchlists, "presets": presets}
        print_json({**shown, "default_preset": default, "deleted": lost})
    else:
        rows = [_row(one, workspace) for kind in kinds for one in kind]
        print_table(COLUMNS, rows, f"{user} has no lists, and never had any")


@app.command()
def restore(
    user: User,
    list_id: Annotated[str, typer.Argument(help="Id of a deleted watchlist or preset: `show` lists them.")],
    name: Annotated[str | None, typer.Option(help="Its name from now on, where another list has its own.")] = None,
    json: JsonOption = False,
) -> None:
    """Bring back a deleted list as it was; that is an event too, in the name of who does it.

    Example: tickview workspaces restore alice 5f2e8f0c6b7d4f9d8f1f0a3c5e7b9d1f
    """
    stamp = Stamp(_operator(), time.time())
    workspaces = _open()
    try:
        lost = workspaces.deleted(user).get(list_id)
        if lost is None:
            raise StartupError(f"{list_id} is no deleted list of {user}: tickview workspaces show {user}")
        workspace, _ = workspaces.execute(user, lambda workspace: workspace.restore(stamp, lost, name))
    except (WorkspaceError, ConflictError, MapperDeserialisationError) as error:
        raise StartupError(f"{list_id} of {user} is not restored: {error}") from error
    restored: Any = workspace.get(list_id)
    if json:
        print_json(asdict(restored))
    else:
        console.print(f"{restored.name} of {user} is there again, at version {restored.version}", markup=False)


def _operator() -> str:
    try:
        return f"operator {getpass.getuser()}"
    except (KeyError, OSError):  # a container's user need have no name
        return "operator"


def _open() -> WorkspaceRepository:
    return WorkspaceRepository(open_logs(open_stores(Settings()), [USERS_LOG])[USERS_LOG], "cli")


def _row(one: Watchlist | Preset, workspace: Workspace) -> dict[str, Any]:
    deleted, default = workspace.get(one.id) is None, one.id == workspace.default_preset
    return {
        "kind": "watchlist" if isinstance(one, Watchlist) else "preset",
        "id": one.id,
        "name": one.name,
        "version": one.version,
        "updated_at": iso(one.updated_at),
        "content": f"{len(one.symbols)} symbols" if isinstance(one, Watchlist) else ", ".join(one.parameters),
        "state": "deleted" if deleted else "default" if default else None,
    }
