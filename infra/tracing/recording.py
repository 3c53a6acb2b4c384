"""The span ``record``: messages become events in the log."""

from collections.abc import Sequence

from domain.announcements import Receipt
from infra.recording.pending import Steps
from infra.recording.recorder import ReadMessages, Recorder
from infra.tracing.spans import BatchSpans


class TracedRecorder(Recorder):
    """A recorder with spans. The recorded events name them, so that later spans are their children."""

    def _append_messages(self, read_messages: ReadMessages, traces: Sequence[str | None]) -> Steps[list[Receipt]]:
        with BatchSpans("record", traces, {"tickview.messages": len(read_messages.messages)}) as spans:
            return (yield from super()._append_messages(read_messages, [spans.child_of(parent) for parent in traces]))
