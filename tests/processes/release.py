"""A worker process of another release: ``python -m tests.processes.release VERSION [former]``.

Version 1 is the released code. Version 2 of ``patterns`` keeps confidences to one decimal; with ``former`` it brings
version 1 along, so that its builds stay current.
"""

import sys
from dataclasses import replace

from infra.cli.roles import stop_on_signals
from infra.composition import open_market_logs, open_stores
from infra.processes.identity import process_name
from infra.processes.logs import configure_logs
from infra.projecting.worker import Worker
from infra.projecting.worker_options import WorkerOptions
from infra.settings import Settings
from projections.patterns import ActivePatterns, Handled, PatternRow


class RoundedPatterns(ActivePatterns):
    """What the next release tells."""

    version = 2

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """As before, in one decimal."""
        evolved = super().evolve(row, event)
        return (
            evolved if evolved is row or evolved is None else replace(evolved, confidence=round(evolved.confidence, 1))
        )


class ChangedPatterns(ActivePatterns):
    """What somebody changed without raising the version."""

    def evolve(self, row: PatternRow | None, event: Handled) -> PatternRow | None:
        """Nothing goes any more."""
        return super().evolve(row, event) or row


RELEASES = {"1": ActivePatterns, "2": RoundedPatterns, "changed": ChangedPatterns}


def main() -> None:
    """Work until told to stop."""
    settings = Settings()
    configure_logs("warning", "release " + sys.argv[1])
    stores = open_stores(settings)
    Worker(
        stores.redis,
        process_name(),
        {"patterns": RELEASES[sys.argv[1]]()},
        open_market_logs(stores),
        WorkerOptions(settings.lease_seconds, settings.fold_batch, settings.replay_throttle),
        former=[ActivePatterns()] if "former" in sys.argv else [],
    ).run(stop_on_signals())


if __name__ == "__main__":
    main()
