"""The log of an outage: its beginning, another error, and its end are each logged once."""

from structlog.testing import capture_logs

from infra.processes.outage import OutageLog


def test_each_class_of_error_is_logged_once_until_recovery() -> None:
    outage = OutageLog("waits", "goes on", log="market-0")
    with capture_logs() as logs:
        outage.recovered()
        for error in (OSError("port 1"), OSError("port 2"), ValueError("two\n  lines"), ValueError("again")):
            outage.failed(error)
            assert outage.is_failing
        outage.recovered()
        outage.recovered()
        assert not outage.is_failing
        outage.failed(OSError("port 3"))
    fields = {"log": "market-0"}
    assert logs == [
        {**fields, "event": "waits", "log_level": "warning", "error": "port 1"},
        {**fields, "event": "waits", "log_level": "warning", "error": "two lines"},
        {**fields, "event": "goes on", "log_level": "info"},
        {**fields, "event": "waits", "log_level": "warning", "error": "port 3"},
    ]
