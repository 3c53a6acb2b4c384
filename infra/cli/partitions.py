"""``tickview partitions``: show the partitions of the market log, and raise their number."""

from typing import Annotated

import typer

from domain.partitions import MAX_PARTITIONS
from infra.cli.errors import CommandError
from infra.cli.journal import record_command
from infra.cli.output import JsonOption, console, print_json, print_table
from infra.composition import Stores, open_database, open_stores, postgres_dsn, unchecked_logs
from infra.log.directory import LogDirectory
from infra.log.partitions import read_partitions
from infra.operations.partitions import PartitionStatus, check_raise, raise_partitions, read_partition_status
from infra.plugins import configure

app = typer.Typer(help="Show the partitions of the market log, and raise their number.", no_args_is_help=True)


@app.command()
def show(json: JsonOption = False) -> None:
    """Show each partition of the market log with its last position and the number of its streams.

    Example: tickview partitions show --json
    """
    _print(_open_logs(open_stores(configure())), json=json)


@app.command(name="raise")
def raise_number(
    number: Annotated[int, typer.Argument(min=1, max=MAX_PARTITIONS, help="The new number of partitions.")],
    json: JsonOption = False,
) -> None:
    """Raise the number of partitions of the market log, while the service runs. The number can never be lowered.

    Streams, such as those of symbols and backtests, stay in the partition in which they began. Streams that begin
    later spread over all partitions. All roles notice the new partitions by themselves. All of them must run a release
    that has this command. If the command is interrupted, run it again.

    Example: tickview partitions raise 8
    """
    settings = configure()
    stores = open_stores(settings)
    logs = _open_logs(stores)
    before = logs.partitions
    database = open_database(settings, writable=True) if postgres_dsn(settings) else None
    raised = check_raise(logs, database, number)
    record_command(stores, "raise-partitions", "market", {"partitions": number})
    raise_partitions(logs, database, raised)
    if not json:
        console.print(f"The market log had {before.number} partitions, and now has {logs.partitions.number}.")
    _print(logs, json=json)


def _open_logs(stores: Stores) -> LogDirectory:
    partitions = read_partitions(stores.redis)
    if partitions is None:
        raise CommandError(
            "The market log is not in use yet. Its first use creates it with TICKVIEW_PARTITIONS partitions."
        )
    return unchecked_logs(stores, partitions=partitions)


def _print(logs: LogDirectory, *, json: bool) -> None:
    status = [each._asdict() for each in read_partition_status(logs)]
    if json:
        partitions = logs.partitions
        print_json({"partitions": partitions.number, "created_with": partitions.created, "logs": status})
    else:
        print_table(PartitionStatus._fields, status, "")
