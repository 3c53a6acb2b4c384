"""The Redis keys of a read model. All keys of a segment share a hash tag, and so a cluster's slot."""

from projections.ports import Segment
from projections.versions import Build


def versions_key(read_model: str) -> str:
    """String: JSON of the builds there are, which of them is live and what shall become of the others."""
    return f"tickview:{{{read_model}}}:versions"


def workers_key(read_model: str, build: Build) -> str:
    """Sorted set: workers whose code can fold this build -> epoch millisecond until which they count as alive."""
    return f"tickview:{{{read_model}}}:workers:{build}"


def fingerprints_key(read_model: str) -> str:
    """Hash: version -> fingerprint of its code and declarations."""
    return f"tickview:{{{read_model}}}:fingerprints"


class SegmentKeys:
    """The keys of one segment.

    ====================  ======  ==========================================================================
    ``state``             hash    checkpoint, recorded_at, committed_at, events_per_second, owner, epoch,
                                  leased_until, changes: how many entries ``changes`` has had
    ``rows``              hash    key of a row -> its document
    ``groups``            hash    group -> keys of its rows, one a line
    ``changes``           stream  one entry a commit, id ``<checkpoint>-<n>``, its fields: rows, [[key, document]];
                                  number, one more than that of the entry before; recorded_at, of the last event
    ``parked``            hash    parked key -> {"error", "position", "since"}
    ``retry``             set     parked keys to be tried again
    ``parked:<key>``      list    the parked events of a key, in order, each a JSON object of its log entry
    ``index:<name>[:g]``  zset    keys of rows by score, of one group if the index has groups
    ``count:<name>``      zset    group -> how many rows
    ====================  ======  ==========================================================================
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
        """The events that are parked under ``key``."""
        return f"{self.prefix}parked:{key}"

    def index(self, name: str, group: str = "") -> str:
        """The index, or the part of it for one group."""
        return f"{self.prefix}index:{name}:{group}" if group else f"{self.prefix}index:{name}"

    def count(self, name: str) -> str:
        """The count."""
        return f"{self.prefix}count:{name}"
