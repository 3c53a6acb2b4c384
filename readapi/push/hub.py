"""The hub of one API process: hears what is committed and tells it to everybody who is connected.

Commits are told at once when the process is idle. While one round is being told, what comes meanwhile gathers for the
next, so that many small commits cost no more than the process can do. What is the same for many is made once: a row is
rendered once a round, a message encoded once for all clients of equal interests, and the bytes are shared by all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from projections.workspaces import WorkspaceRow, Workspaces
from readapi.catalogue.filters import Catalogue
from readapi.ports.commits import CommitListener
from readapi.ports.read_models import Freshness
from readapi.push.change_feed import ChangeFeed
from readapi.push.event_ids import Topic, TopicPositions, format_id
from readapi.push.messages import Message, message
from readapi.push.metrics import PushMetrics
from readapi.push.replay_buffer import ReplayBuffer
from readapi.push.subscribers import FRAMINGS, MAX_WAITING_BYTES, Audience, Subscriber, Subscribers
from readapi.push.subscription_parameters import renewed, users_of
from readapi.push.subscriptions import Subscription, meaning_of
from readapi.push.updates import TopicUpdate, id_for, steps
from readapi.push.workspace_changes import ChangedWorkspaces

HEARTBEAT_SECONDS = 15.0

WRITES_PER_TURN = 100
"""Clients written to before the process has a look at what else there is to do."""

REST_SHARE = 0.25
"""After a round, what comes gathers for so much of the time that the round took."""

LONGEST_REST_SECONDS = 0.1

STEPS_AT_HAND = 32
"""Steps that are kept for others who come back to the same place in the same second."""

DRAIN_SECONDS = 10.0
"""A client that catches up is dropped if it takes nothing for so long."""


FILTERS_CHANGED = "the catalogue or a list has changed, and with it what the filters mean"

WorkspacesOf = Callable[[Collection[str]], Awaitable[Mapping[str, WorkspaceRow]]]
"""What some users have; who has nothing may be missing."""


class ResumePoint(NamedTuple):
    """Where a client comes back from: its places, and what its filters meant there."""

    places: TopicPositions
    meaning: str = ""


class Hub:
    """Live push in one API process. ``run`` must be running; ``clock`` gives epoch seconds.

    ``away`` are the errors that ``workspaces_of`` raises while the store cannot be reached.
    """

    def __init__(
        self,
        freshness: Freshness,
        catalogue: Catalogue,
        workspaces_of: WorkspacesOf,
        clock: Callable[[], float],
        wait_seconds: float,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        away: tuple[type[Exception], ...] = (),
    ) -> None:
        self.metrics = PushMetrics()
        self.catalogue = catalogue
        self._meanings = catalogue.state
        self._workspaces_of = workspaces_of
        self._away: tuple[type[Exception], ...] = (TimeoutError, *away)
        self._freshness = freshness
        self._clock = clock
        self._wait_seconds = wait_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._woken = asyncio.Event()
        self._moved = asyncio.Event()
        self._feeds: dict[Topic, ChangeFeed] = {
            "patterns": ChangeFeed("patterns", self._woken.set, ReplayBuffer()),
            "backtests": ChangeFeed("backtests", self._woken.set, ReplayBuffer()),
        }
        self._lists = ChangedWorkspaces(self._woken.set)
        self._subscribers = Subscribers(self.metrics)
        self._steps: dict[tuple[str, int], TopicUpdate] = {}

    @property
    def listeners(self) -> Mapping[str, CommitListener]:
        """Who is to hear of the commits to each read model, by its name."""
        feeds: dict[str, CommitListener] = {feed.topic: feed for feed in self._feeds.values()}
        return {**feeds, Workspaces.name: self._lists}

    async def run(self) -> None:
        """Tell what is heard, and send heartbeats, until cancelled."""
        beat = time.monotonic() + self._heartbeat_seconds
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(beat - time.monotonic()):
                    await self._woken.wait()
            if self._woken.is_set():
                self._woken.clear()
                began = time.monotonic()
                await self._tell()
                await self._renew()
                # A fifth of the time, at least, is for requests; and what gathers meanwhile is told with fewer writes.
                await asyncio.sleep(min((time.monotonic() - began) * REST_SHARE, LONGEST_REST_SECONDS))
            if time.monotonic() >= beat:
                await self._renew()
                await self._expel()
                await self._beat()
                beat = time.monotonic() + self._heartbeat_seconds

    async def _tell(self) -> None:
        for feed in self._feeds.values():
            # Who joins while this is being told has been told it already.
            audience = self._subscribers.audience()
            for step in feed.take(self._told, self._clock()):
                clients = await self._broadcast(audience, step.message)
                if step.reset is not None:
                    self.metrics.reset.inc(clients)
                elif clients:
                    now = self._clock()
                    for moment in step.recorded_at:
                        self.metrics.seconds.observe(max(now - moment, 0))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    @property
    def _told(self) -> TopicPositions:
        return {topic: feed.told for topic, feed in self._feeds.items()}

    def on_catalogue_change(self) -> None:
        """Wake up if it has changed."""
        if self.catalogue.state != self._meanings:
            self._woken.set()

    async def _renew(self) -> None:
        """Those whose filters mean something else than before are told to begin anew."""
        state = self.catalogue.state
        if self._meanings == state and self._lists.is_empty:
            return
        audience = self._subscribers.audience()
        watched = set().union(*(users_of(interests) for interests, _ in audience))
        changed = self._lists.take(watched)
        workspaces = await self._read(watched if self._meanings != state else changed)
        self._meanings = state
        for interests, transports in audience:
            meant = renewed(interests, self.catalogue, workspaces)
            if meant == interests:
                continue
            for _, subscribers in transports:
                for subscriber in subscribers:
                    self._subscribers.move(subscriber, meant)
            clients = await self._broadcast([(meant, transports)], self._filters_reset)
            self.metrics.reset.inc(clients)
            await asyncio.sleep(0)

    async def _read(self, users: Collection[str]) -> Mapping[str, WorkspaceRow]:
        """What these users have; those who cannot be asked for now are missing, and asked for again later."""
        if not users:
            return {}
        try:
            # A store that hangs must not keep the others from being told.
            async with asyncio.timeout(self._wait_seconds):
                found = await self._workspaces_of(users)
        except self._away:
            self._lists.put_back(users)
            return {}
        return {user: found.get(user) or WorkspaceRow(user) for user in users}

    def _filters_reset(self, interests: Subscription) -> Message | None:
        return TopicUpdate("patterns", self._told, FILTERS_CHANGED).message(interests)

    async def _expel(self) -> None:
        """End those whose tokens are not valid any more."""
        clients = [one for _, groups in self._subscribers.audience() for _, members in groups for one in members]
        for number, subscriber in enumerate(clients):
            if not subscriber.is_admitted():
                self._subscribers.expel(subscriber)
            if number % WRITES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _beat(self) -> None:
        age, places = self._freshness.age(), self._told
        staleness = {} if age is None else {"stale": True, "age_seconds": round(age, 3)}
        await self._broadcast(
            self._subscribers.audience(),
            lambda interests: message("heartbeat", id_for(interests, places), **staleness),
        )

    async def _broadcast(self, audience: Audience, message_for: Callable[[Subscription], Message | None]) -> int:
        """Write to all of them whom it concerns; how many these were."""
        written = 0
        for interests, transports in audience:
            one = message_for(interests)
            if one is None:
                continue
            for transport, subscribers in transports:
                data = FRAMINGS[transport](one)
                for subscriber in subscribers:
                    if subscriber.stream.unsent_bytes > MAX_WAITING_BYTES:
                        self._subscribers.drop(subscriber)
                        continue
                    subscriber.stream.write(data)
                    written += 1
                    if written % WRITES_PER_TURN == 0:
                        await asyncio.sleep(0)
        return written

    async def follow(self, subscriber: Subscriber, since: ResumePoint | None) -> None:
        """Bring a client from ``since`` up to date; from then on it is told what the others are, until it leaves."""
        if since is None:
            subscriber.send(message("ready", id_for(subscriber.interests, self._told), resumed=False))
        elif not await self._catch_up(subscriber, since):
            return
        self._renew_one(subscriber)
        self._subscribers.join(subscriber)
        # What was heard of its lists while it connected was not for it.
        if users := users_of(subscriber.interests):
            self._lists.add(users)

    def _renew_one(self, subscriber: Subscriber) -> None:
        """The catalogue may have changed while the client caught up."""
        meant = renewed(subscriber.interests, self.catalogue, {})
        if meant != subscriber.interests:
            subscriber.interests = meant
            self._send(subscriber, TopicUpdate("patterns", self._told, FILTERS_CHANGED))
            self.metrics.reset.inc()

    def leave(self, subscriber: Subscriber) -> None:
        """The client is gone."""
        self._subscribers.leave(subscriber)

    async def _catch_up(self, subscriber: Subscriber, since: ResumePoint) -> bool:
        """Whether there is still somebody who has been told everything."""
        await self._reached(since.places)
        meant_otherwise = since.meaning != meaning_of(subscriber.interests)
        places, resets = self._from_where(since.places, FILTERS_CHANGED if meant_otherwise else None)
        subscriber.send(message("ready", id_for(subscriber.interests, places), resumed=not resets))
        if not resets:
            self.metrics.resumed.inc()
        while not subscriber.stream.is_ended:
            for reset in resets:
                self._send(subscriber, reset)
            step = self._next_step(places)
            if step is None:
                return True
            self._send(subscriber, step)
            if not await self._drained(subscriber):
                break
            places, resets = self._from_where(step.places)
        return False

    async def _reached(self, since: TopicPositions) -> None:
        """Wait until all that led to ``since`` has been told, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while not all(self._feeds[topic].told.covers(place) for topic, place in since.items()):
                    await self._moved.wait()

    def _from_where(
        self, since: TopicPositions, patterns_lost: str | None = None
    ) -> tuple[TopicPositions, list[TopicUpdate]]:
        """From where a client can be told everything, and the resets that bring it there from ``since``.

        ``patterns_lost`` is why what came after it of patterns would not be what the client asks for.
        """
        lost = {feed: feed.lost(since[topic]) for topic, feed in self._feeds.items() if topic in since}
        if patterns_lost and "patterns" in since:
            lost[self._feeds["patterns"]] = patterns_lost
        places = {feed.topic: feed.told if reason else since[feed.topic] for feed, reason in lost.items()}
        resets = [TopicUpdate(feed.topic, places, reason) for feed, reason in lost.items() if reason]
        self.metrics.reset.inc(len(resets))
        return places, resets

    def _next_step(self, places: TopicPositions) -> TopicUpdate | None:
        """The next step from there, the same for all who come back together, as after a restart; None at the end."""
        now = self._clock()
        here = format_id(places), int(now)
        step = self._steps.get(here)
        if step is None:
            step = self._make_step(places, now)
            if step is not None:
                self._steps[here] = step
                if len(self._steps) > STEPS_AT_HAND:
                    del self._steps[next(iter(self._steps))]
        return step

    def _make_step(self, places: TopicPositions, now: float) -> TopicUpdate | None:
        for topic, place in places.items():
            step = next(steps(topic, places, self._feeds[topic].missed(place), now), None)
            if step is not None:
                return step
        return None

    def _send(self, subscriber: Subscriber, step: TopicUpdate) -> None:
        one = step.message(subscriber.interests)
        if one is not None:
            subscriber.send(one)

    async def _drained(self, subscriber: Subscriber) -> bool:
        """Whether the client takes what it is sent. Lets the others have their turn."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await subscriber.stream.drain()
        except TimeoutError:
            self._subscribers.drop(subscriber)
            return False
        await asyncio.sleep(0)
        return True
