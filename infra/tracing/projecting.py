"""The spans ``fold`` and ``commit``: events change the rows of a read model."""

from domain.origins import trace_of
from infra.projecting.batches import FoldedBatch, LoadedBatch
from infra.projecting.projector import Projector
from infra.tracing.spans import Attributes, BatchSpans
from projections.ports import CommitOutcome, PendingCommit, Progress


class TracedProjector(Projector):
    """A projector with spans. Each commit names its traces in the changes, so that live push continues them."""

    def _fold(self, after: int, batch: LoadedBatch) -> FoldedBatch:
        traces = (trace_of(decoded.entry.origin) for decoded in batch.decoded)
        with BatchSpans("fold", traces, self._attributes(len(batch.entries))) as spans:
            folded = super()._fold(after, batch)
        folded.mutations.traces = spans.traceparents
        return folded

    def _begin_commit(self, progress: Progress, batch: FoldedBatch) -> PendingCommit:
        attributes = self._attributes(len(batch.entries)) | {"tickview.position": progress.position}
        spans = BatchSpans("commit", batch.mutations.traces, attributes)
        batch.mutations.traces = spans.traceparents
        try:
            return _TracedCommit(super()._begin_commit(progress, batch), spans)
        except BaseException as error:
            spans.end(error)
            raise

    def _attributes(self, events: int) -> dict[str, str | int]:
        segment = self.lease.segment
        attributes: Attributes = {
            "tickview.read_model": segment.read_model,
            "tickview.build": str(segment.build),
            "tickview.log": segment.log,
            "tickview.events": events,
        }
        return dict(attributes)


class _TracedCommit:
    """A pending commit whose spans end with its outcome. Implements ``PendingCommit``."""

    def __init__(self, commit: PendingCommit, spans: BatchSpans) -> None:
        self._commit = commit
        self._spans = spans

    def result(self) -> CommitOutcome:
        """Wait for the outcome."""
        with self._spans:
            return self._commit.result()
