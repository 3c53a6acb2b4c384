"""The span ``push``: the changes of commits are sent to the clients of live push.

This module imports ``prometheus_client``. See ``infra/serving/app.py``.
"""

from typing import ClassVar

from infra.tracing.spans import BatchSpans
from readapi.push.hub import Hub
from readapi.push.publisher import Publisher
from readapi.push.subscribers import Audience
from readapi.push.updates import TopicUpdate


class TracedPublisher(Publisher):
    """A publisher with spans. The messages name them, so that a client can continue the trace."""

    async def _send(self, update: TopicUpdate, audience: Audience) -> None:
        with BatchSpans("push", update.traces, {"tickview.read_model": update.topic.name}) as spans:
            update.traces = list(spans.traceparents)
            await super()._send(update, audience)


class TracedHub(Hub):
    """Live push with spans."""

    publisher_class: ClassVar[type[Publisher]] = TracedPublisher
