"""Event ids: the position of a client in the changes of its topics, as text.

An event id names, for each topic of the client, the build and the last commit of each log that the client has
received: ``patterns:1.3/market-0=1234-0,market-1=77-0``. It has the same meaning in every API process and after a
restart, because commit ids come from the store. It serves as the last event ID of server-sent events
(https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from projections.versions import Build
from readapi.ports.commits import CommitId, CommitIds

_COMMIT_ID = r"[a-z][a-z0-9-]{0,31}=[0-9]{1,18}-[0-9]{1,18}"
_TOPIC_POSITION = re.compile(
    rf"([a-z][a-z0-9_-]{{0,63}}):([0-9]{{1,9}}\.[0-9]{{1,9}})/((?:{_COMMIT_ID}(?:,{_COMMIT_ID}){{0,63}})?)", re.ASCII
)


class TopicPosition(NamedTuple):
    """A position in the changes of one topic: a build, and the last commit of each log."""

    build: Build
    last_commits: CommitIds

    def covers(self, other: "TopicPosition") -> bool:
        """Return whether this position includes every commit up to ``other``. A later build includes earlier builds."""
        if self.build != other.build:
            return self.build.number > other.build.number
        return all(
            log in self.last_commits and self.last_commits[log] >= commit_id
            for log, commit_id in other.last_commits.items()
        )


TopicPositions = Mapping[str, TopicPosition]
"""Name of a topic -> position in its changes."""

_DIGEST_SEPARATOR = ";filters:"
"""Text between the positions and the digest of the filters."""


def format_id(positions: TopicPositions, filters_digest: str = "") -> str:
    """Format an event id: ``patterns:1.1/market-0=1234-0,market-1=77-0``, with ``;`` between the topics.

    A digest of the client's filters is appended if there is one: ``;filters:0f1e2d3c4b5a6978``.
    """
    text = ";".join(
        f"{topic}:{build}/{_format(last_commits)}" for topic, (build, last_commits) in sorted(positions.items())
    )
    return text + _DIGEST_SEPARATOR + filters_digest if filters_digest else text


def split_id(text: str) -> tuple[str, str]:
    """Split an event id into the text of its positions and the digest of the filters, which may be empty."""
    positions, _, filters_digest = text.partition(_DIGEST_SEPARATOR)
    return positions, filters_digest


def _format(last_commits: CommitIds) -> str:
    return ",".join(f"{log}={position}-{number}" for log, (position, number) in sorted(last_commits.items()))


def parse_id(text: str, topics: Collection[str]) -> TopicPositions:
    """Parse the positions of an event id, as ``split_id`` returns them.

    Args:
        text: The positions.
        topics: The names of the client's topics. The id must name each of them once, and no other topic.

    Raises:
        ValueError: The text is malformed or names other topics.
    """
    matches = [_TOPIC_POSITION.fullmatch(part) for part in text.split(";")]
    positions = {match[1]: TopicPosition(Build.parse(match[2]), _parse(match[3])) for match in matches if match}
    if None in matches:
        raise ValueError("should be the id of a received message")
    if positions.keys() != set(topics) or len(matches) != len(positions):
        raise ValueError(f"should be the id of a message for the same topics: {', '.join(sorted(topics))}")
    return {topic: positions[topic] for topic in topics}


def _parse(last_commits: str) -> CommitIds:
    return dict(_parse_commit_id(part) for part in last_commits.split(",") if part)


def _parse_commit_id(text: str) -> tuple[str, CommitId]:
    log, _, commit_id = text.partition("=")
    position, _, number = commit_id.partition("-")
    return log, CommitId(int(position), int(number))
