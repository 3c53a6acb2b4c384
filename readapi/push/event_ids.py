"""Where a client is: an id names, for each topic, the build and the last commit of every log that it has been told.

It means the same in every API process, and after a restart.
"""

import re
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

from projections.versions import Build
from readapi.ports.commits import CommitId, CommitIds

_MARK = r"[a-z][a-z0-9-]{0,31}=[0-9]{1,18}-[0-9]{1,18}"
_PLACE = re.compile(rf"([a-z]{{1,16}}):([0-9]{{1,9}}\.[0-9]{{1,9}})/((?:{_MARK}(?:,{_MARK}){{0,63}})?)", re.ASCII)

Topic = Literal["patterns", "backtests"]
"""A read model whose changes are told, by its name."""


class TopicPosition(NamedTuple):
    """How far a read model has been told."""

    build: Build
    marks: CommitIds

    def covers(self, other: "TopicPosition") -> bool:
        """Whether somebody who is here knows everything that led to ``other``, or is in a later build."""
        if self.build != other.build:
            return self.build.number > other.build.number
        return all(log in self.marks and self.marks[log] >= mark for log, mark in other.marks.items())


TopicPositions = Mapping[Topic, TopicPosition]
"""Topic -> how far it has been told."""


_MEANING = ";filters:"


def format_id(places: TopicPositions, meaning: str = "") -> str:
    """``patterns:1.1/market-0=1234-0,market-1=77-0``; the topics are parted by ``;``.

    A ``meaning`` of filters stands behind them: ``;filters:0f1e2d3c4b5a6978``.
    """
    text = ";".join(f"{topic}:{build}/{_format(marks)}" for topic, (build, marks) in sorted(places.items()))
    return text + _MEANING + meaning if meaning else text


def split_id(text: str) -> tuple[str, str]:
    """The places in an id, and the meaning of the filters that its message was for."""
    places, _, meaning = text.partition(_MEANING)
    return places, meaning


def _format(marks: CommitIds) -> str:
    return ",".join(f"{log}={position}-{number}" for log, (position, number) in sorted(marks.items()))


def parse_id(text: str, topics: Collection[Topic]) -> TopicPositions:
    """What ``format_id`` makes of places in exactly these topics. Raises ValueError for anything else."""
    matches = [_PLACE.fullmatch(part) for part in text.split(";")]
    places = {match[1]: TopicPosition(Build.parse(match[2]), _parse(match[3])) for match in matches if match}
    if None in matches:
        raise ValueError("should be the id of a message, as it was received")
    if places.keys() != set(topics) or len(matches) != len(places):
        raise ValueError(f"should be the id of a message to the same topics: {', '.join(sorted(topics))}")
    return {topic: places[topic] for topic in topics}


def _parse(marks: str) -> CommitIds:
    return dict(_parse_mark(mark) for mark in marks.split(",") if mark)


def _parse_mark(text: str) -> tuple[str, CommitId]:
    log, _, mark = text.partition("=")
    position, _, number = mark.partition("-")
    return log, CommitId(int(position), int(number))
