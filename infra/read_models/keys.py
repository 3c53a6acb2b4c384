"""The Redis keys of a read model. The keys of a segment share a hash tag, so that a cluster stores them in one slot."""

from projections.ports import Segment
from projections.versions import Build


def versions_key(read_model: str) -> str:
    """Return the key of the builds of a read model.

    String: JSON with the live, the previous and the current build, and the builds to drop.
    """
    return f"tickview:{{{read_model}}}:versions"


def workers_key(read_model: str, build: Build) -> str:
    """Return the key of the workers whose code can fold a build.

    Sorted set: worker, scored by the epoch millisecond until which it counts as alive.
    """
    return f"tickview:{{{read_model}}}:workers:{build}"


def running_code_key(read_model: str) -> str:
    """Return the key of the code that running workers carry for a read model.

    Sorted set: ``<worker> <version> <fingerprint>``, scored by the epoch millisecond until which it counts as running.
    """
    return f"tickview:{{{read_model}}}:running-code"


def fingerprints_key(read_model: str) -> str:
    """Return the key of the fingerprints of a read model.

    Hash: version -> fingerprint of the code that builds it.
    """
    return f"tickview:{{{read_model}}}:fingerprints"


class SegmentKeys:
    """The keys of one segment.

    ====================  ==========  ==================================================================
    ``state``             hash        checkpoint; recorded_at, committed_at (epoch seconds); events_per_second;
                                      owner, epoch, leased_until (epoch milliseconds) of the lease; changes:
                                      number of entries that ``changes`` has had
    ``rows``              hash        row key -> document
    ``groups``            hash        group -> keys of its rows, separated by line feeds
    ``changes``           stream      one entry per commit, id ``<checkpoint>-<n>``; fields: rows, a JSON array
                                      of [key, document]; number, one higher than in the previous entry;
                                      recorded_at of the last event
    ``parked``            hash        parked key -> {"error", "position", "since"}
    ``retry``             set         parked keys whose retry an operator has requested
    ``parked:<key>``      list        parked events of a key, in order, each the JSON object of its log entry
    ``index:<name>``      sorted set  row keys, scored by the value of a column; ``index:@ends``: by the moment at
                                      which the row ends; ``index:@all``: by 0
    ``index:<c>=:<g>``    sorted set  keys of the rows whose value in the column c is g, scored by the projection's
                                      order
    ``text:<column>``     hash        row key -> text of the row in a column by which rows can be sorted;
                                      ``text:<c>=``: row key -> text in the case of the filters, if it differs
    ``count:<name>``      sorted set  group, scored by its number of rows
    ====================  ==========  ==================================================================
    """

    def __init__(self, segment: Segment) -> None:
        self.prefix = f"tickview:{{{segment.read_model}/{segment.log}}}:{segment.build}:"
        self.state = self.prefix + "state"
        self.rows = self.prefix + "rows"
        self.groups = self.prefix + "groups"
        self.changes = self.prefix + "changes"
        self.parked = self.prefix + "parked"
        self.retry = self.prefix + "retry"

    def parked_events(self, key: str) -> str:
        """Return the key of the parked events of a row key."""
        return f"{self.prefix}parked:{key}"

    def index(self, name: str, group: str = "") -> str:
        """Return the key of an index, or of the part of the index that holds one group."""
        return f"{self.prefix}index:{name}:{group}" if group else f"{self.prefix}index:{name}"

    def texts(self, column: str) -> str:
        """Return the key of the texts of a column."""
        return f"{self.prefix}text:{column}"

    def count(self, name: str) -> str:
        """Return the key of a count."""
        return f"{self.prefix}count:{name}"
