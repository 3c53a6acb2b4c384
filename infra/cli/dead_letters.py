"""``tickview dead-letters``: list, show, retry and discard messages that could not be read."""

from typing import Annotated, Any

import typer

from domain.announcements import DeadLetter
from infra.cli.errors import NEGATIVE_OUTCOME, CommandError
from infra.cli.journal import record_command_for_each
from infra.cli.output import JsonOption, console, iso, print_json, print_table
from infra.composition import Stores, open_dead_letters, open_market_logs, open_recorder, open_stores
from infra.plugins import configure
from infra.recording.dead_letters import DeadLetters

app = typer.Typer(help="List, show, retry and discard messages that could not be read.", no_args_is_help=True)

Ids = Annotated[list[str] | None, typer.Argument(help="Ids of dead letters.")]
All = Annotated[bool, typer.Option("--all", help="Use all dead letters.")]

PAGE_SIZE = 500
"""Number of dead letters that are read at a time."""


@app.command(name="list")
def list_letters(
    limit: Annotated[int, typer.Option(min=1, help="Number of dead letters.")] = 50, json: JsonOption = False
) -> None:
    """List the newest dead letters, each with the reason why it could not be read.

    Example: tickview dead-letters list --json
    """
    letters = [_summary(letter) for letter in _open()[0].page(None, limit)]
    if json:
        print_json({"dead_letters": letters})
    else:
        print_table(("id", "received_at", "channel", "times", "reason"), letters, "no dead letters")


@app.command()
def show(letter_id: Annotated[str, typer.Argument(help="Id of the dead letter.")], json: JsonOption = False) -> None:
    """Show one dead letter with the message as it was received.

    Example: tickview dead-letters show 5f0c…
    """
    letter = _get(_open()[0], letter_id)
    details = {**_summary(letter), "payload": letter.payload.decode(errors="backslashreplace")}
    if json:
        print_json(details)
        return
    for name, value in details.items():
        console.print(f"{name:12} {value}", markup=False, highlight=False)


@app.command()
def retry(ids: Ids = None, every: All = False, json: JsonOption = False) -> None:
    """Read dead letters again, for example after an update. Record the messages that can be read now.

    Exit code 3: a dead letter was refused again.

    Example: tickview dead-letters retry --all
    """
    letters, stores = _open()
    recorder = open_recorder(stores, open_market_logs(stores), letters)
    chosen = _chosen(letters, ids, every)
    record_command_for_each(stores, "retry-dead-letter", chosen)
    outcomes = []
    for letter_id in chosen:
        letter = letters.get(letter_id)
        if letter is None:  # It was discarded, or dropped because of its age, since it was chosen.
            continue
        receipt = recorder.retry(letter)
        outcome = "refused" if receipt.refusals else "recorded"
        reason = receipt.refusals[0].reason if receipt.refusals else None
        outcomes.append({"id": letter.id, "outcome": outcome, "events": len(receipt.events), "reason": reason})
    if json:
        print_json({"retried": outcomes})
    else:
        print_table(("id", "outcome", "events", "reason"), outcomes, "no dead letters")
    if any(outcome["outcome"] == "refused" for outcome in outcomes):
        raise typer.Exit(NEGATIVE_OUTCOME)


@app.command()
def discard(
    ids: Ids = None,
    every: All = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before all dead letters are removed.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove dead letters permanently. With --all, the command asks first.

    Example: tickview dead-letters discard 5f0c…
    """
    letters, stores = _open()
    chosen = _chosen(letters, ids, every)
    if every and chosen and not yes:
        typer.confirm(f"Remove {len(chosen)} dead letters permanently?", abort=True, err=True)
    record_command_for_each(stores, "discard-dead-letter", chosen)
    discarded = [letter_id for letter_id in chosen if letters.discard(letter_id)]
    if json:
        print_json({"discarded": discarded})
    else:
        console.print(f"{len(discarded)} dead letters discarded")


def _open() -> tuple[DeadLetters, Stores]:
    stores = open_stores(configure())
    return open_dead_letters(stores), stores


def _get(letters: DeadLetters, letter_id: str) -> DeadLetter:
    letter = letters.get(letter_id)
    if letter is None:
        raise CommandError(f"There is no dead letter {letter_id}. `tickview dead-letters list` lists all dead letters.")
    return letter


def _chosen(letters: DeadLetters, ids: list[str] | None, every: bool) -> list[str]:
    """Return these ids, after a check that each is the id of a dead letter, or the ids of all dead letters."""
    if bool(ids) == every:
        raise CommandError("Give either the ids of dead letters or --all.")
    if ids:
        return [_get(letters, letter_id).id for letter_id in ids]
    chosen: list[str] = []
    before: int | None = None
    while page := letters.page(before, PAGE_SIZE):
        chosen += (letter.id for letter in page)
        before = page[-1].number
    return chosen


def _summary(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "received_at": iso(letter.received_at),
        "channel": letter.channel,
        "via": letter.via,
        "times": letter.times,
        "retries": letter.retries,
        "code": letter.code,
        "reason": letter.reason,
        "bytes": letter.payload_bytes,
    }
