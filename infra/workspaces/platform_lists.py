"""Import of the watchlists and filter presets that the TickStock platform stores in its PostgreSQL.

Each list gets an id that follows from its row. So a list that was imported before, and one that its user has changed or
deleted since, stays as it is.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from typing import Any, NamedTuple

from psycopg import Connection
from psycopg.rows import dict_row

from domain.list_rules import NameTakenError, WorkspaceError
from domain.lists import PresetDraft
from domain.origins import Sender
from domain.workspace import Stamp, Workspace
from infra.postgres.statements import load_statements
from infra.workspaces.repository import WorkspaceRepository
from readapi.compatibility.tickstock.bodies import preset_parameters
from readapi.http.identities import SUBJECT_RULE, is_subject
from readapi.users.filter_presets import normalize_parameters

WATCHLISTS, PRESETS = "user_watchlists", "user_filter_presets"
"""Tables of the platform. The table of the presets may be missing."""

_statements = load_statements(__package__)
_HAS_TABLE = _statements["has_table"]
_SELECT = {WATCHLISTS: _statements["select_watchlists"], PRESETS: _statements["select_presets"]}


class PlatformList(NamedTuple):
    """A row of the platform: a watchlist, or a preset if ``symbols`` is None."""

    table: str
    row_id: int
    user: str
    name: str
    symbols: Sequence[str] | None
    filters: Mapping[str, Any]
    is_default: bool
    created_at: datetime | None

    @property
    def where(self) -> str:
        """The place of the row."""
        return f"{self.table} id {self.row_id}"

    @property
    def list_id(self) -> str:
        """The id of the list in TickView."""
        kind = "preset" if self.symbols is None else "watchlist"
        return sha256(f"tickstock {kind} {self.table} {self.user} {self.row_id}".encode()).hexdigest()[:32]


@dataclass
class ImportReport:
    """The number of lists by result, and the refused rows: place and reason."""

    watchlists: int = 0
    presets: int = 0
    known: int = 0
    """Lists that were imported before."""
    refused: list[tuple[str, str]] = field(default_factory=list)


def read_platform_lists(connection: Connection) -> Iterator[PlatformList]:
    """Read the watchlists and presets of the platform. A watchlist with filters is a watchlist and a preset."""
    for table, statement in _SELECT.items():
        [[exists]] = connection.execute(_HAS_TABLE, [table]).fetchall()
        if not exists:
            continue
        with connection.cursor(row_factory=dict_row) as cursor:
            for row in cursor.execute(statement):
                row["filters"] = row["filters"] if isinstance(row["filters"], dict) else {}
                stored = PlatformList(table, **row)
                if stored.symbols is not None:
                    yield stored
                if stored.filters or stored.symbols is None:
                    yield stored._replace(symbols=None)


def import_lists(
    workspaces: WorkspaceRepository, lists: Iterator[PlatformList], operator: Sender, now: float, *, dry_run: bool
) -> ImportReport:
    """Create the lists that were not imported before, with one append per user.

    Args:
        workspaces: The workspaces of all users.
        lists: The lists of the platform.
        operator: The operator, for the events.
        now: The time of creation of a list without one, in seconds since the epoch.
        dry_run: Report the result without recording it.

    Raises:
        ConflictError: Other commands changed a workspace during every attempt.
        UnreadableEventError: This code cannot read an event of a user.
        PersistenceError: The log cannot be read or cannot append.
    """
    report = ImportReport()
    by_user: dict[str, list[PlatformList]] = defaultdict(list)
    for each in lists:
        if is_subject(each.user):
            by_user[each.user].append(each)
        else:
            report.refused.append((each.where, f"user_id is {each.user[:48]!r}: it {SUBJECT_RULE}"))
    for user, rows in by_user.items():
        deleted = workspaces.deleted_lists(user)
        importing = _UserImport(rows, frozenset(deleted), operator, now)
        if dry_run:
            importing(workspaces.load(user))
        else:
            workspaces.execute(user, importing, operator)
        report.watchlists += importing.report.watchlists
        report.presets += importing.report.presets
        report.known += importing.report.known
        report.refused += importing.report.refused
    return report


class _UserImport:
    """The command that creates the lists of one user. A repeated call begins a new report."""

    def __init__(self, rows: Sequence[PlatformList], deleted: frozenset[str], operator: Sender, now: float) -> None:
        self._rows = rows
        self._deleted = deleted
        self._source = f"operator {operator.subject}"
        self._now = now
        self.report = ImportReport()

    def __call__(self, workspace: Workspace) -> None:
        self.report = ImportReport()
        if workspace.generation > 1:
            self.report.refused += ((row.where, f"{row.user} was forgotten") for row in self._rows)
            return
        for row in self._rows:
            if row.list_id in self._deleted or workspace.get(row.list_id):
                self.report.known += 1
                continue
            try:
                self._create(workspace, row)
            except WorkspaceError as error:
                self.report.refused.append((row.where, str(error)))

    def _create(self, workspace: Workspace, row: PlatformList) -> None:
        # The platform stores times without a zone. Its servers run in UTC.
        created_at = row.created_at.replace(tzinfo=row.created_at.tzinfo or UTC).timestamp() if row.created_at else None
        stamp = Stamp(self._source, self._now if created_at is None else created_at)
        if row.symbols is not None:
            symbols = list(dict.fromkeys(symbol.strip().upper() for symbol in row.symbols))
            _with_free_name(row.name, lambda name: workspace.create_watchlist(stamp, row.list_id, name, symbols))
            self.report.watchlists += 1
            return
        parameters = _preset_parameters(row, workspace)
        _with_free_name(
            row.name,
            lambda name: workspace.create_preset(stamp, row.list_id, PresetDraft(name, parameters, row.is_default)),
        )
        self.report.presets += 1


def _preset_parameters(row: PlatformList, workspace: Workspace) -> dict[str, Any]:
    """Convert filters to parameters of a scan. The filters of a watchlist apply to its symbols."""
    parameters = preset_parameters(dict(row.filters))
    if row.table == WATCHLISTS and (watchlist := row._replace(symbols=()).list_id) in workspace.watchlists:
        parameters["watchlist"] = watchlist
    return normalize_parameters(parameters)


def _with_free_name(name: str, create: Callable[[str], None]) -> None:
    """Create a list. If another list has its name, a number makes the name unique."""
    for number in count(1):
        try:
            create(name if number == 1 else f"{name.strip()} ({number})")
        except NameTakenError:
            continue
        return
