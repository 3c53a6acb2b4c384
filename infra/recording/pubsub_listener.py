"""Listener for messages over pub/sub. Redis keeps no message for a listener that is away.

A connection can be open and yet deliver nothing, and a user can have no right to a channel. The listener therefore
publishes a canary once per second, on a channel of its own, and must hear it. A listener that hears a canary has heard
all messages that were published before it. A time without that certainty is stored as a gap.

The nodes of a cluster pass on all messages to each other. A listener subscribes at one of them. It publishes a canary
on each primary, and must hear all of them. It also notices that another node has connected anew, because messages may
have been dropped before that.
"""

import time
from collections.abc import Callable, Set
from threading import Event

import structlog
from eventsourcing.persistence import PersistenceError
from redis import Redis, RedisCluster
from redis.client import PubSub
from redis.exceptions import RedisError

from domain.announcements import Message
from domain.errors import TickViewError
from domain.wire import CHANNELS, is_pattern, subscription_of
from infra.heartbeats.heartbeats import read_liveness
from infra.heartbeats.progress import Progress
from infra.processes.outage import OutageLog
from infra.recording.gaps import NewGap
from infra.recording.intake import RETRY_SECONDS, BacklogFullError, Intake
from infra.redis.cluster import incoming_links, open_pubsub, run_on_primaries
from infra.redis.connections import RedisClient
from readapi.ports.operations import Gap

logger = structlog.get_logger()

WAY = "pubsub"

CANARY_PREFIX = "tickstock.canary."
"""Prefix of the channels of the canaries. It has the first part of the producers' channels, so that an ACL rule which
allows ``tickstock.*`` allows the canaries, too."""

CANARY_SECONDS = 1.0
"""Seconds between two canaries."""

DEAF_SECONDS = 4.0
"""Seconds without a published canary after which the connection is replaced."""

BACKLOG_WAIT_SECONDS = 2.0
"""Longest wait for room in the backlog, in seconds, before a pub/sub message is dropped. Redis buffers only little."""

POLL_SECONDS = 0.5
"""Longest wait for a message, in seconds, before the listener checks whether it should stop."""


class DeafError(TickViewError):
    """The connection is open, but delivers nothing, or leads to a replica."""


class PubsubListener:
    """Puts the messages on the producers' channels into the intake.

    Counts the messages ``dropped`` because the backlog was full, and the ``gaps``.

    Args:
        subscriber: The client of the subscription. It must not retry, so that no interruption is hidden.
        client: The client that publishes the canaries and stores the gaps.
        intake: The intake, which also counts.
        process: The name of this recorder.
        last_recorded: Returns the time of the last event that arrived over pub/sub, in epoch seconds, or None. It tells
            when the gap before the first subscription began if Redis has lost the heartbeats of earlier recorders.
    """

    def __init__(
        self,
        subscriber: RedisClient,
        client: RedisClient,
        intake: Intake,
        process: str,
        last_recorded: Callable[[], float | None],
    ) -> None:
        self._subscriber = subscriber
        self._client = client
        self._intake = intake
        self._process = process
        self._last_recorded = last_recorded
        self._canary_channel = CANARY_PREFIX + process
        self._outage = OutageLog("pub/sub interrupted, messages may be missed", "pub/sub resumed")
        self._reason = "no recorder was running"
        self._heard_before: float | None = None
        """Epoch seconds up to which earlier or other recorders are known to have heard messages."""
        self._heard_until: float | None = None
        """Moment on the monotonic clock up to which all messages were heard. None: this process has not heard any."""
        self._waiting_since: float | None = None
        """Moment of the subscription or of the oldest canary that is not heard yet, on the monotonic clock."""
        self._canaries: dict[bytes, float] = {}
        """The canaries that may still be heard -> moment before the publication, on the monotonic clock.

        The canaries of one moment are one per primary.
        """
        self._links: Set[tuple[bytes, int]] = frozenset()
        """The connections of the other nodes of a cluster to the node of the subscription."""
        self._next_canary = 0.0
        self._new_gaps: list[NewGap] = []
        self.progress = Progress()

    def run(self, stop: Event) -> None:
        """Listen until ``stop`` is set."""
        while not stop.is_set():
            try:
                if self._heard_until is None:
                    # Before the subscription, because the last recorded event must not be of this recorder.
                    self._heard_before = self._find_last_hearing()
                with open_pubsub(self._subscriber) as pubsub:
                    self._listen(pubsub, stop)
            except (RedisError, PersistenceError, DeafError) as error:
                self._reason = " ".join(str(error).split())
                self.progress.failed(error)
                self._outage.failed(error)
                stop.wait(RETRY_SECONDS)

    def _listen(self, pubsub: PubSub, stop: Event) -> None:
        """Listen on one connection until it fails."""
        self._waiting_since = subscribed_at = time.monotonic()
        self._canaries.clear()
        self._links = self._read_links(pubsub)
        unconfirmed = {*CHANNELS, self._canary_channel}
        patterns = [name for name in CHANNELS if is_pattern(name)]
        pubsub.subscribe(*unconfirmed.difference(patterns))
        if patterns:
            pubsub.psubscribe(*patterns)
        while not stop.is_set():
            if not unconfirmed:
                self._publish_canary(pubsub)
            received = pubsub.get_message(timeout=POLL_SECONDS)
            if received is None:
                self._check_hearing()
                continue
            channel = received["channel"].decode(errors="replace")
            if received["type"] in ("subscribe", "psubscribe"):
                unconfirmed.discard(channel)
                if not unconfirmed:
                    self._end_gap(subscribed_at)
            elif received["pattern"] is None or _is_heard_by(received["pattern"].decode(), channel):
                self._hear(channel, received["data"])

    def _publish_canary(self, pubsub: PubSub) -> None:
        """Publish a canary if one is due. Raises DeafError if the subscription does not lead to the primary server."""
        now = time.monotonic()
        if now < self._next_canary:
            return
        self._next_canary = now + CANARY_SECONDS

        def publish(server: Redis) -> tuple[int, str]:
            canary = b"%f %d" % (now, len(self._canaries))
            self._canaries[canary] = now
            with server.pipeline(transaction=False) as pipeline:
                pipeline.publish(self._canary_channel, canary)
                pipeline.info("replication")
                receivers, replication = pipeline.execute()
            return receivers, replication["role"]

        try:
            self._check_links(pubsub, now)
            [(receivers, role), *_] = run_on_primaries(self._client, publish)
        except RedisError as error:
            # The subscription may be intact. It is replaced only if all canaries are published and one is not heard.
            self._canaries = {canary: moment for canary, moment in self._canaries.items() if moment != now}
            self.progress.failed(error)
            return
        if not isinstance(self._client, RedisCluster):
            if role != "master":
                # A replica accepts PUBLISH, and delivers what its primary tells it, for as long as it can reach it.
                raise DeafError("the server has become a replica")
            if not receivers:
                # A replica delivers messages, too, but only while it can reach the new primary.
                raise DeafError("the subscription leads to another server than the commands")
        if self._waiting_since is None:
            self._waiting_since = now

    def _check_links(self, pubsub: PubSub, now: float) -> None:
        """Note a gap if another node has connected anew. Its messages from just before the last canary count, too."""
        links = self._read_links(pubsub)
        if links != self._links and self._heard_until is not None:
            self._reason = "the nodes of the cluster have lost a connection to each other"
            self._heard_until -= CANARY_SECONDS
            self._end_gap(now)
        self._links = links

    def _read_links(self, pubsub: PubSub) -> Set[tuple[bytes, int]]:
        return incoming_links(pubsub) if isinstance(self._client, RedisCluster) else frozenset()

    def _check_hearing(self) -> None:
        """Raise DeafError if a confirmation or a canary is overdue. The connection must have nothing more to read."""
        if self._waiting_since is not None and time.monotonic() - self._waiting_since > DEAF_SECONDS:
            raise DeafError(f"the connection is open, but has delivered no message for {DEAF_SECONDS:g} s")

    def _hear(self, channel: str, payload: bytes) -> None:
        if channel == self._canary_channel:
            self._hear_canary(payload)
            return
        try:
            self._intake.put(Message(channel, payload, time.time(), WAY), BACKLOG_WAIT_SECONDS)
        except BacklogFullError as error:
            self._intake.counts.add({"dropped": 1})
            logger.error("pub/sub message dropped", channel=channel, error=str(error))

    def _hear_canary(self, canary: bytes) -> None:
        published = self._canaries.pop(canary, None)
        if published is None or published in self._canaries.values():  # another client's, or not the last of its moment
            return
        self._canaries = {later: moment for later, moment in self._canaries.items() if moment > published}
        # The canary may have waited in a buffer, with messages behind it that are lost if the connection ends now.
        self._heard_until = published
        self._waiting_since = None
        self._outage.recovered()
        self._store_gaps()
        self.progress.made(until=published)

    def _end_gap(self, subscribed_at: float) -> None:
        """Note the gap before this moment. The server has confirmed all subscriptions some time after the request."""
        ended, is_first = time.time(), self._heard_until is None
        began = self._heard_before if self._heard_until is None else ended - (time.monotonic() - self._heard_until)
        self._heard_until = subscribed_at
        if began is not None:
            gap = Gap(WAY, self._process, round(min(began, ended), 3), round(ended, 3), self._reason, others=0)
            self._new_gaps.append(NewGap(gap, is_first))
            logger.warning("gap in listening to pub/sub", seconds=round(ended - began, 3), reason=gap.reason)

    def _find_last_hearing(self) -> float | None:
        """Find the time in epoch seconds up to which any recorder has heard messages. None: no recorder is known."""
        ages = read_liveness(self._client, [WAY])[WAY].ages
        others = [age for process, age in ages.items() if process != self._process]
        return time.time() - min(others) if others else self._last_recorded()

    def _store_gaps(self) -> None:
        """Store and correct the new gaps. A full server refuses them: the next canary tries again."""
        try:
            for new in list(self._new_gaps):
                new.store(self._client)
                is_gap = new.correct(self._client)
                if is_gap is not None:
                    self._new_gaps.remove(new)
                    self._intake.counts.add({"gaps": int(is_gap)})
        except RedisError as error:
            logger.warning("gap not stored", error=str(error))


def _is_heard_by(pattern: str, channel: str) -> bool:
    """Return whether a pattern is the subscription by which a channel is heard.

    Redis delivers a message once for each subscription that matches its channel. A pattern may also match canaries.
    """
    return subscription_of(channel) == pattern and not channel.startswith(CANARY_PREFIX)
