"""The connected clients of live push, grouped by subscription, and the bounds that apply to each client."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping

from readapi.http.client_stream import Stream
from readapi.push.messages import Framing, PushMessage, message
from readapi.push.metrics import PushMetrics
from readapi.push.subscriptions import Subscription
from readapi.push.topics import Topic

MAX_UNSENT_BYTES = 1_048_576
"""Bytes that may wait for one client. A client with more is dropped. Clients share the memory of equal messages."""

WRITES_PER_TURN = 100
"""Number of clients written to before other tasks of the event loop run."""

CODE_TOO_SLOW = 4008
"""WebSocket close code for a client that is dropped because it is too slow."""

TOO_SLOW = "too slow: more than 1 MiB was waiting; connect again with the last id"
"""Reason for a client that is dropped because it is too slow. At most 123 bytes."""

OVERLOADED = "too slow: too much is waiting for all clients together; connect again with the last id"
"""Reason for a client that is dropped because too many bytes wait for all clients. At most 123 bytes."""

SMALL_MESSAGE_BYTES = 16_384
"""Bytes that the operating system takes at once from the message to a client for which nothing waits."""

CODE_NOT_ADMITTED = 4001
"""WebSocket close code for a client whose token is no longer valid."""

NOT_ADMITTED = "the token has expired or was revoked; connect again with a valid token and the last id"
"""Reason for a client whose token is no longer valid. At most 123 bytes."""


class Subscriber:
    """One connected client.

    Args:
        stream: The connection.
        framing: Encodes messages for the connection.
        subscription: The topics and filters of the client.
        is_admitted: Tells whether the client's token is still valid.
        user: The id of the user, who receives own alerts. None: the client receives no alerts.
    """

    def __init__(
        self,
        stream: Stream,
        framing: Framing,
        subscription: Subscription,
        is_admitted: Callable[[], bool] = lambda: True,
        user: str | None = None,
    ) -> None:
        self.is_admitted = is_admitted
        self.user = user
        self.stream = stream
        self.framing = framing
        self.subscription = subscription

    def send(self, message: PushMessage) -> None:
        """Send a message to this client alone."""
        self.stream.write(self.framing(message))


Audience = list[tuple[Subscription, list[tuple[Framing, list[Subscriber]]]]]
"""A snapshot of the clients, by subscription and framing."""


class Subscribers:
    """All clients that are up to date, in groups of equal subscription and framing.

    A broadcast encodes each message once per subscription, frames it once per framing, and writes the same bytes to
    every client of the group. The cost per client is one ``write``.

    Args:
        metrics: The metrics of dropped clients.
        max_unsent_bytes: Highest number of bytes that wait for all clients together. Clients of a group share them.
    """

    def __init__(self, metrics: PushMetrics, max_unsent_bytes: int) -> None:
        self._metrics = metrics
        self._max_unsent_bytes = max_unsent_bytes
        self._behind: set[Subscriber] = set()
        """The clients for which bytes may wait, those that were dropped with bytes among them."""
        self._groups: dict[Subscription, dict[Framing, set[Subscriber]]] = {}
        self._by_user: dict[str, set[Subscriber]] = {}

    def join(self, subscriber: Subscriber) -> None:
        """Add a client to the group of its subscription."""
        self._groups.setdefault(subscriber.subscription, {}).setdefault(subscriber.framing, set()).add(subscriber)
        if subscriber.user is not None:
            self._by_user.setdefault(subscriber.user, set()).add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Remove a client from its group. Does nothing if it is in no group."""
        framings = self._groups.get(subscriber.subscription, {})
        subscribers = framings.get(subscriber.framing, set())
        subscribers.discard(subscriber)
        if not subscribers:
            framings.pop(subscriber.framing, None)
        if not framings:
            self._groups.pop(subscriber.subscription, None)
        if subscriber.user is not None:
            own = self._by_user.get(subscriber.user, set())
            own.discard(subscriber)
            if not own:
                self._by_user.pop(subscriber.user, None)

    def move(self, subscriber: Subscriber, subscription: Subscription) -> None:
        """Change the subscription of a client. Does nothing if the client has left."""
        if subscriber in self._groups.get(subscriber.subscription, {}).get(subscriber.framing, ()):
            self.leave(subscriber)
            subscriber.subscription = subscription
            self.join(subscriber)

    def audience(self, topic: Topic | None = None) -> Audience:
        """Return a snapshot of the groups, which later joins and leaves do not change.

        Args:
            topic: The topic to which the clients have subscribed. None for all clients.
        """
        return [
            (subscription, [(framing, list(subscribers)) for framing, subscribers in framings.items()])
            for subscription, framings in self._groups.items()
            if topic is None or any(each.topic is topic for each in subscription)
        ]

    def audience_of(self, user: str) -> Audience:
        """Return the clients of a user whose tokens are still valid."""
        own = [subscriber for subscriber in self._by_user.get(user, ()) if subscriber.is_admitted()]
        return [(subscriber.subscription, [(subscriber.framing, [subscriber])]) for subscriber in own]

    async def broadcast(self, audience: Audience, message_for: Callable[[Subscription], PushMessage | None]) -> int:
        """Write a message to every client of an audience. Drop clients for which too many bytes wait.

        Args:
            audience: The clients.
            message_for: Returns the message for a subscription, or None if its clients receive none.

        Returns:
            Number of clients written to.
        """
        written = unchecked_bytes = 0
        for subscription, framings in audience:
            message = message_for(subscription)
            if message is None:
                continue
            for framing, subscribers in framings:
                data = framing(message)
                is_large = len(data) > SMALL_MESSAGE_BYTES
                for subscriber in subscribers:
                    unsent = subscriber.stream.unsent_bytes
                    if unsent > MAX_UNSENT_BYTES:
                        self.drop(subscriber)
                        continue
                    subscriber.stream.write(data)
                    if unsent or is_large:
                        self._behind.add(subscriber)
                    written += 1
                    if written % WRITES_PER_TURN == 0:
                        await asyncio.sleep(0)
                unchecked_bytes += len(data)
                if unchecked_bytes > self._max_unsent_bytes // 4:
                    await self.relieve()
                    unchecked_bytes = 0
        if self._behind:
            await self.relieve()
        return written

    async def expel_unadmitted(self) -> None:
        """Disconnect every client whose token is no longer valid."""
        clients = [client for _, groups in self.audience() for _, members in groups for client in members]
        for number, subscriber in enumerate(clients):
            if not subscriber.is_admitted():
                self._end(subscriber, CODE_NOT_ADMITTED, NOT_ADMITTED)
            if number % WRITES_PER_TURN == 0:
                await asyncio.sleep(0)

    async def relieve(self, further: Iterable[Subscriber] = ()) -> None:
        """Drop the clients that are most behind, until few enough bytes wait for all clients together.

        A dropped client has some time to read the bytes that wait for it. The connected clients may have half of the
        bytes, and the dropped clients the other half: beyond, their connections are aborted.

        Args:
            further: Clients that were written to without a broadcast.
        """
        self._behind.update(further)
        await asyncio.sleep(0)  # The operating system takes the bytes that were written just now.
        unsent = {subscriber: number for subscriber in self._behind if (number := subscriber.stream.unsent_bytes)}
        self._behind = set(unsent)
        connected = {subscriber: unsent[subscriber] for subscriber in unsent if not subscriber.stream.is_ended}
        dropped = {subscriber: unsent[subscriber] for subscriber in unsent if subscriber.stream.is_ended}
        for subscriber in self._most_behind(connected):
            self.drop(subscriber, OVERLOADED)
        for subscriber in self._most_behind(dropped):
            subscriber.stream.abort()

    def _most_behind(self, unsent: Mapping[Subscriber, int]) -> list[Subscriber]:
        """Return the clients without which half of the allowed bytes wait. ``unsent`` has the bytes of each client."""
        descending = sorted(unsent, key=unsent.__getitem__, reverse=True)
        groups: dict[Hashable, list[int]] = {}
        for subscriber in descending:
            groups.setdefault(self._group_of(subscriber), []).append(unsent[subscriber])
        # The bytes of the client of a group that is most behind include those of the others.
        excess = sum(numbers[0] for numbers in groups.values()) - self._max_unsent_bytes // 2
        chosen = []
        for subscriber in descending:
            if excess <= 0:
                break
            numbers = groups[self._group_of(subscriber)]
            excess -= numbers.pop(0) - (numbers[0] if numbers else 0)
            chosen.append(subscriber)
        return chosen

    def _group_of(self, subscriber: Subscriber) -> Hashable:
        """Return a value that is equal for clients with the same messages. A client that is resuming is alone."""
        subscription, framing = subscriber.subscription, subscriber.framing
        is_member = subscriber in self._groups.get(subscription, {}).get(framing, ())
        return (subscription, framing) if is_member else subscriber

    def drop(self, subscriber: Subscriber, reason: str = TOO_SLOW) -> None:
        """Disconnect a client because it is too slow."""
        if self._end(subscriber, CODE_TOO_SLOW, reason):
            self._behind.add(subscriber)
            self._metrics.dropped.inc()

    def _end(self, subscriber: Subscriber, code: int, reason: str) -> bool:
        """Disconnect a client after the bytes that wait for it. Return False if it is already disconnected."""
        self.leave(subscriber)
        if subscriber.stream.is_ended:
            return False
        subscriber.send(message("dropped", reason=reason))
        subscriber.stream.finish(code, reason)
        return True
