"""The metrics of API processes that end: gauges disappear, totals stay, and the number of files stays bounded."""

import re
import signal
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.processes.api_service import api
from tests.processes.push_clients import receive, websocket
from tests.processes.roles import running_role, wait_until


def value(client: httpx.Client, series: str) -> float:
    """Return the sum of the values of the series whose names begin with ``series``."""
    found = re.findall(rf"^{re.escape(series)}\S* ([0-9.e+]+)$", client.get("/metrics").text, re.MULTILINE)
    return sum(map(float, found))


def test_metrics_of_a_killed_process_do_not_show_its_clients_and_keep_its_requests(redis_url: str) -> None:
    scans = 'tickview_http_request_seconds_count{method="GET",route="/api/patterns/scan"'
    with running_role("project", redis_url=redis_url), api(redis_url, api_processes=2) as client:
        wait_until(lambda: client.get("/api/health/ready").status_code == 200, "the API is ready")
        with websocket(client, "/ws") as connection:
            assert receive(connection)["type"] == "ready"
            for _ in range(20):
                assert client.get("/api/patterns/scan").status_code == 200
            wait_until(lambda: value(client, "tickview_push_connections") == 1, "the client is counted")
            before = wait_until(lambda: value(client, scans) >= 20 and value(client, scans), "the scans are counted")
            processes = [
                process
                for process in psutil.process_iter()
                if any(listener.laddr.port == client.base_url.port for listener in sockets(process))
            ]
            workers = [process for process in processes if process.parent() in processes]
            assert len(workers) == 2
            [folder] = {metrics_folder(process) for process in workers}
            for worker in workers:
                worker.send_signal(signal.SIGKILL)
        wait_until(lambda: is_answering(client), "new processes answer")
        wait_until(lambda: value(client, "tickview_push_connections") == 0, "no client is counted")
        assert value(client, scans) >= before
        ended = {str(worker.pid) for worker in workers}
        # One of the new processes may answer before the server has seen the end of the second one.
        wait_until(lambda: not [file for file in folder.iterdir() if file.stem.rpartition("_")[2] in ended], "no file")


def series_of(client: httpx.Client) -> set[str]:
    """Return the names of all series with their labels."""
    return {line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines() if not line.startswith("#")}


def test_values_of_producers_and_clients_make_no_series(redis_url: str) -> None:
    def send(number: int) -> None:
        name = f"value-{number}"
        data = {"symbol": f"S{number}", "pattern": name, "tier": name, "confidence": 0.5, "source": name}
        detection = {"event_type": "pattern_detected", "source": name, "data": data}
        run = {"event_type": "backtest_progress", "job_id": name, "status": name, "source": name, "progress": 0.5}
        report = {"event_type": "system_health", "source": name, "status": name, "metrics": {name: 1}}
        messages = [detection, run, report, {"event_type": name}, {"channel": name, "payload": {name: 1}}]
        assert client.post("/api/events", json=messages).status_code == 207
        headers = {"X-User-ID": name, "User-Agent": name}
        assert client.get(f"/api/patterns/scan?pattern_types={name}", headers=headers).status_code == 200
        assert client.get(f"/{name}", headers=headers).status_code == 404
        assert client.request(f"VALUE{number}", "/api/patterns/scan").status_code in (400, 405)

    with running_role("project", redis_url=redis_url), api(redis_url, api_processes=1) as client:
        wait_until(lambda: client.get("/api/health/ready").status_code == 200, "the API is ready")
        send(0)
        wait_until(lambda: value(client, "tickview_intake_total") > 0, "the messages are counted")
        before = series_of(client)
        for number in range(1, 20):
            send(number)
        added = series_of(client) - before
        assert not [series for series in added if "value" in series.lower()]
        assert len(added) < 10, added


def sockets(process: psutil.Process) -> list[Any]:
    try:
        return [each for each in process.net_connections("tcp") if each.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def metrics_folder(process: psutil.Process) -> Path:
    """Return the folder of the metric files that a process has open."""
    return next(Path(file.path).parent for file in process.open_files() if file.path.endswith(".db"))


def is_answering(client: httpx.Client) -> bool:
    try:
        return client.get("/api/health/live").status_code == 200
    except httpx.TransportError:
        return False
