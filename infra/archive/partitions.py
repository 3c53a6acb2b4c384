"""The number of partitions of the market log in the archive, from which a Redis that has lost it gets it back."""

from psycopg import Connection

from domain.partitions import Partitions
from domain.streams import MARKET_LOG
from infra.log.errors import LogDivergedError
from infra.postgres.statements import load_statements

_statements = load_statements(__package__)
_MERGE_PARTITIONS = _statements["merge_partitions"]
_SELECT_PARTITIONS = _statements["select_partitions"]


def merge_archived(connection: Connection, partitions: Partitions) -> Partitions:
    """Merge a number of partitions into the archived number, and return the result.

    Raises:
        LogDivergedError: The archive is that of a log which never had this number of partitions.
    """
    values = {"family": MARKET_LOG, "number": partitions.number, "created": partitions.created}
    row = connection.execute(_MERGE_PARTITIONS, values).fetchone()
    if row:
        return Partitions(*row)
    [[archived]] = connection.execute(_SELECT_PARTITIONS, [MARKET_LOG])
    raise LogDivergedError(
        f"TICKVIEW_PARTITIONS={partitions.number}, but the archive has {archived} partitions of the market log. "
        f"Is it the right archive? If so, set TICKVIEW_PARTITIONS={archived}."
    )
