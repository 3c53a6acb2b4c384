"""The span ``record``: messages become events in the log."""

from collections.abc import Sequence

from domain.announcements import Message, Receipt
from domain.wire import ReadResult
from infra.recording.recorder import Recorder
from infra.tracing.spans import BatchSpans


class TracedRecorder(Recorder):
    """A recorder with spans. The recorded events name them, so that later spans are their children."""

    def _append_messages(
        self, messages: Sequence[Message], readings: Sequence[ReadResult], traces: Sequence[str | None]
    ) -> list[Receipt]:
        with BatchSpans("record", traces, {"tickview.messages": len(messages)}) as spans:
            return super()._append_messages(messages, readings, [spans.child_of(parent) for parent in traces])
