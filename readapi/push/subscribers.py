"""Who is connected: groups of clients that are told the same, and the bounds on each."""

from collections.abc import Callable
from typing import Literal

from readapi.http.client_stream import Stream
from readapi.push.messages import Message, event_chunk, message, websocket_frame
from readapi.push.metrics import PushMetrics
from readapi.push.subscriptions import Subscription

MAX_WAITING_BYTES = 1_048_576
"""A client that more bytes than these wait for is dropped. The bytes are shared by all who wait for them."""

CODE_TOO_SLOW = 4008
"""Closes a WebSocket whose client is dropped."""

TOO_SLOW = "too slow: more than 1 MiB was waiting; come back with the last id you have"

CODE_NOT_ADMITTED = 4001
"""Closes a WebSocket whose token is not valid any more."""

NOT_ADMITTED = "the token has ended or was revoked; come back with another and the last id you have"

Transport = Literal["sse", "websocket"]
FRAMINGS: dict[Transport, Callable[[Message], bytes]] = {"sse": event_chunk, "websocket": websocket_frame}


class Subscriber:
    """One client."""

    def __init__(
        self,
        stream: Stream,
        transport: Transport,
        interests: Subscription,
        is_admitted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.is_admitted = is_admitted
        self.stream = stream
        self.transport = transport
        self.interests = interests

    def send(self, one: Message) -> None:
        """A message to this client alone."""
        self.stream.write(FRAMINGS[self.transport](one))


Audience = list[tuple[Subscription, list[tuple[Transport, list[Subscriber]]]]]
"""Clients by their interests, and by how they are connected."""


class Subscribers:
    """All clients that are up to date, by what they are told."""

    def __init__(self, metrics: PushMetrics) -> None:
        self._metrics = metrics
        self._groups: dict[Subscription, dict[Transport, set[Subscriber]]] = {}

    def join(self, subscriber: Subscriber) -> None:
        """From now on it is told what the others of its interests are."""
        self._groups.setdefault(subscriber.interests, {}).setdefault(subscriber.transport, set()).add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """It is told nothing any more."""
        transports = self._groups.get(subscriber.interests, {})
        subscribers = transports.get(subscriber.transport, set())
        subscribers.discard(subscriber)
        if not subscribers:
            transports.pop(subscriber.transport, None)
        if not transports:
            self._groups.pop(subscriber.interests, None)

    def move(self, subscriber: Subscriber, interests: Subscription) -> None:
        """From now on it is told what others of these interests are, if it has not left meanwhile."""
        if subscriber in self._groups.get(subscriber.interests, {}).get(subscriber.transport, ()):
            self.leave(subscriber)
            subscriber.interests = interests
            self.join(subscriber)

    def audience(self) -> Audience:
        """Who is there now, whatever joins and leaves mean while they are being told."""
        return [
            (interests, [(transport, list(subscribers)) for transport, subscribers in transports.items()])
            for interests, transports in self._groups.items()
        ]

    def expel(self, subscriber: Subscriber) -> None:
        """End it because its token is not valid any more, and say so."""
        self.leave(subscriber)
        if not subscriber.stream.is_ended:
            subscriber.send(message("dropped", reason=NOT_ADMITTED))
            subscriber.stream.finish(CODE_NOT_ADMITTED, NOT_ADMITTED)

    def drop(self, subscriber: Subscriber) -> None:
        """End it for being slow, and say so behind what is waiting for it."""
        self.leave(subscriber)
        if not subscriber.stream.is_ended:
            subscriber.send(message("dropped", reason=TOO_SLOW))
            subscriber.stream.finish(CODE_TOO_SLOW, TOO_SLOW)
            self._metrics.dropped.inc()
