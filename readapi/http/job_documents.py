"""The state of a job as a JSON document."""

from typing_extensions import TypedDict

from readapi.ports.jobs import Job, PartProgress


class JobDocument(TypedDict):
    """The state of a job. Times are in epoch seconds.

    ``finished_at`` is null while the job is under way. ``parts`` are the parts that have begun, and ``percent`` is the
    done share of them. ``error`` says why the job failed, or is null.
    """

    started_at: float
    finished_at: float | None
    percent: float
    parts: list[PartProgress]
    error: str | None


def job_document(job: Job) -> JobDocument:
    """Convert the state of a job to its JSON document."""
    total = sum(part["total"] for part in job.parts)
    done = sum(part["done"] for part in job.parts)
    is_complete = job.finished_at is not None and job.error is None
    return {
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "percent": 100.0 if is_complete else round(min(done / total, 1.0) * 100, 1) if total else 0.0,
        "parts": list(job.parts),
        "error": job.error,
    }
