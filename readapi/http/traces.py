"""The trace of a request (W3C Trace Context)."""

from falcon.asgi import Request

from domain.origins import is_traceparent


def traceparent_of(req: Request) -> str | None:
    """Return the ``traceparent`` for the work of a request: of its own span if it is traced, else of the client.

    Returns:
        The ``traceparent``. None if the client sent none, or one that is not valid.
    """
    trace = getattr(req.context, "traceparent", None) or req.get_header("traceparent")
    return trace if is_traceparent(trace) else None
