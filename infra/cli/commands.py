"""The table of the commands of ``tickview``, with their summaries, so that ``tickview --help`` imports no command."""

from typing import NamedTuple


class CommandEntry(NamedTuple):
    """A command, or a group of commands."""

    target: str
    """Module and attribute of the function of a command, or of the ``Typer`` of a group."""
    summary: str
    """The first paragraph of the help text."""


COMMANDS = {
    "up": CommandEntry(
        "infra.cli.up:up",
        "Run TickView on this machine until Ctrl-C: all roles, and the servers whose addresses are not set.",
    ),
    "record": CommandEntry(
        "infra.cli.record:record",
        "Record the messages of producers, from pub/sub and from the ingest stream, in the event log.",
    ),
    "project": CommandEntry(
        "infra.cli.project:project",
        "Fold the event log into the read models. All running workers share the work.",
    ),
    "archive": CommandEntry(
        "infra.cli.archive:archive",
        "Archive the event log in PostgreSQL in hash chains, and trim the archived part of the log.",
    ),
    "alert": CommandEntry(
        "infra.cli.alert:alert",
        "Match new patterns with the alerts of users, and deliver the matches to webhooks and live connections.",
    ),
    "serve": CommandEntry(
        "infra.cli.serve:serve",
        "Serve the query API over HTTP.",
    ),
    "publish": CommandEntry(
        "infra.cli.publish:publish",
        "Send messages to TickView as a producer does.",
    ),
    "status": CommandEntry(
        "infra.cli.status:status",
        "Show the health, the counts of incoming messages, and the progress of read models and archive.",
    ),
    "query": CommandEntry(
        "infra.cli.query:query",
        "Print the rows of a read model that match all filters.",
    ),
    "projections": CommandEntry(
        "infra.cli.status:projections",
        "Show the progress of all read models, or the segments and parked keys of one read model.",
    ),
    "replay": CommandEntry(
        "infra.cli.replay:replay",
        "Rebuild a read model from the whole history beside the live build, then switch to the new build.",
    ),
    "rollback": CommandEntry(
        "infra.cli.replay:rollback",
        "Switch back to the previous build at once. A second rollback switches forward again.",
    ),
    "partitions": CommandEntry(
        "infra.cli.partitions:app",
        "Show the partitions of the market log, and raise their number.",
    ),
    "history": CommandEntry(
        "infra.cli.history:history",
        "Print the events of a stream, a pattern or a backtest, oldest first.",
    ),
    "catalogue": CommandEntry(
        "infra.cli.catalogue:app",
        "Synchronize the catalogue of symbols and universes.",
    ),
    "workspaces": CommandEntry(
        "infra.cli.workspaces:app",
        "Show, restore and import the watchlists and filter presets of users.",
    ),
    "users": CommandEntry(
        "infra.cli.users:app",
        "Forget the watchlists and filter presets of a user.",
    ),
    "demo": CommandEntry(
        "infra.cli.demo:demo",
        "Replay real market bars until Ctrl-C, and announce their patterns and backtests.",
    ),
    "dead-letters": CommandEntry(
        "infra.cli.dead_letters:app",
        "List, show, retry and discard messages that could not be read.",
    ),
    "config": CommandEntry(
        "infra.cli.config:config",
        "Print the settings in effect and the source of each. Secrets are hidden.",
    ),
    "new": CommandEntry(
        "infra.cli.new:app",
        "Write the files that a new part of a plug-in needs.",
    ),
    "token": CommandEntry(
        "infra.cli.token:app",
        "Create, list and revoke tokens of the API in the file TICKVIEW_TOKENS_FILE.",
    ),
    "audit": CommandEntry(
        "infra.cli.audit:app",
        "Verify the archive, print and check its heads, and export its events.",
    ),
    "bench": CommandEntry(
        "infra.cli.bench:app",
        "Measure the speed of TickView, and of the limit in the same run.",
    ),
}
"""The commands by name, in the order of ``tickview --help``."""
