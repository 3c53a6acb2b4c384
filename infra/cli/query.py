"""``tickview query``: the rows of a read model from the API: now, as of a moment, or as they change."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from infra.cli.api_client import ApiAnswer, authorization, open_answer
from infra.cli.errors import CommandError
from infra.cli.output import JsonOption, console, print_json, row_table
from infra.composition import api_url
from infra.settings import Settings

WATCH_SECONDS = 1.0
"""Seconds between two requests while a query is watched. An answer that has not changed costs the API little."""

TIMEOUT_SECONDS = 60.0
"""Seconds to wait for an answer."""

Answer = Mapping[str, Any]


def query(
    name: Annotated[str, typer.Argument(help="Name of the read model. `tickview projections` lists all.")],
    conditions: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COLUMN=VALUE]...",
            help="Filters and other parameters of GET /api/read-models/NAME: symbol=AAPL,MSFT rsi_min=30",
        ),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="Column to sort by. -COLUMN sorts in descending order.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Moment in the past: ISO 8601 or epoch seconds.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Print the rows again whenever they change.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print all matching rows as CSV instead of one page.")] = False,
    json: JsonOption = False,
) -> None:
    """Print the rows of a read model that match all filters.

    The command asks the API that `tickview up` or `tickview serve` runs.

    Example: tickview query patterns symbol=AAPL confidence_min=0.8 --sort -detected_at
    """
    if csv and (json or watch):
        raise CommandError("--csv prints all rows once. It cannot be combined with --json or --watch.")
    rows = _Rows(Settings(), name, _parameters(conditions or [], sort, as_of))
    if csv:
        rows.copy_csv()
    elif watch:
        _watch(rows, json=json)
    else:
        answer = rows.read()
        assert answer is not None
        if json:
            print_json(answer)
        else:
            console.print(_table(answer))


def _parameters(conditions: Sequence[str], sort: str | None, as_of: str | None) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals or not name:
            raise CommandError(f"{condition} is not a filter. Write COLUMN=VALUE, for example symbol=AAPL.")
        parameters[name] = value
    if sort is not None:
        parameters |= {"sort_by": sort.removeprefix("-"), "sort_order": "desc" if sort.startswith("-") else "asc"}
    if as_of is not None:
        parameters["as_of"] = as_of
    return parameters


class _Rows:
    """The rows of one read model that match some parameters, as the API answers."""

    def __init__(self, settings: Settings, name: str, parameters: Mapping[str, str]) -> None:
        self._name = name
        self._base = api_url(settings)
        self._target = f"/api/read-models/{quote(name, safe='')}?{urlencode(parameters)}"
        self._headers = authorization(settings)
        self._tag: str | None = None

    def read(self) -> Answer | None:
        """Read the page. Return None if it has not changed since the last call."""
        headers = {"If-None-Match": self._tag} if self._tag else {}
        with self._open({"Accept": "application/json", **headers}) as response:
            if response is None:
                return None
            self._tag = response.tag
            return response.json("rows", "pagination", "next")

    def copy_csv(self) -> None:
        """Write all rows as CSV to the standard output while they arrive."""
        with self._open({"Accept": "text/csv"}) as response:
            assert response is not None
            for chunk in response.chunks("text/csv"):
                sys.stdout.buffer.write(chunk)

    @contextmanager
    def _open(self, headers: Mapping[str, str]) -> Iterator[ApiAnswer | None]:
        """Open the response, or None for status 304. Raises CommandError with the reason of the API."""
        headers = {**self._headers, **headers}
        with open_answer(self._base, self._target, headers, timeout=TIMEOUT_SECONDS) as answer:
            if answer.status == HTTPStatus.NOT_MODIFIED:
                yield None
            elif answer.status == HTTPStatus.OK:
                yield answer
            else:
                problem = answer.json("type", "detail")
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise CommandError(
                        f"There is no read model {self._name} that can be queried. GET /api/read-models lists all."
                    )
                raise CommandError(str(problem["detail"]))


def _watch(rows: _Rows, *, json: bool) -> None:
    """Print the page whenever it changes, until the user presses Ctrl-C."""
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            answer = rows.read()
            if answer is not None and json:
                print_json(answer)
            elif answer is not None:
                live.update(_table(answer), refresh=True)
            time.sleep(WATCH_SECONDS)


def _table(answer: Answer) -> Any:
    rows, pagination = answer["rows"], answer["pagination"]
    if not rows:
        return Text(answer.get("hint") or "no rows match")
    columns = [name for name in rows[0] if not any(isinstance(row[name], dict | list) for row in rows)]
    shown = f"{len(rows)} of {pagination['total']} rows"
    if answer["next"]:
        following = f"page={pagination['page'] + 1}" if pagination["page"] else f"cursor={answer['next']}"
        shown += f"; {following} shows the next rows, and --csv prints all"
    return Group(row_table(columns, rows), shown)
