"""The API behind nginx, with the file of docs/deploy: TLS, REST, server-sent events, WebSockets, and dead upstreams."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pwd import getpwuid

import httpx
import pytest
from websockets.sync.client import connect

from tests import servers
from tests.certificates import Certificates, make_certificates
from tests.processes.api_service import api, detection, post
from tests.processes.push_clients import TIMEOUT_SECONDS, receive
from tests.processes.roles import running_role
from tests.tcp_ports import free_port

CONFIGURATION = Path(__file__).parents[2] / "docs" / "deploy" / "nginx.conf"
PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed: apt-get install nginx-light")


@contextmanager
def nginx(folder: Path, certificates: Certificates, upstream: int, dead: int) -> Iterator[int]:
    """Run nginx with the documented file before a live and a dead upstream. Yield its port."""
    port = free_port()
    replacements = {
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "10.0.0.11:8000": f"127.0.0.1:{upstream}",
        "10.0.0.12:8000": f"127.0.0.1:{dead}",
        "/etc/nginx/tls/tickview.pem": str(certificates.certificate),
        "/etc/nginx/tls/tickview.key": str(certificates.key),
        "http {": f"http {{ access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; "
        f"fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;",
    }
    text = CONFIGURATION.read_text()
    for before, after in replacements.items():
        assert before in text
        text = text.replace(before, after)
    file = folder / "nginx.conf"
    # As root, nginx would run its workers as a user who cannot write to the folder.
    user = f"user {getpwuid(os.geteuid()).pw_name};"
    file.write_text(f"daemon off; {user} error_log {folder}/error.log; pid {folder}/nginx.pid;\n{text}")
    assert PROGRAM is not None
    process = subprocess.Popen([PROGRAM, "-e", str(folder / "error.log"), "-c", str(file)])
    try:
        servers.wait_until_listening(port)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=servers.STOP_SECONDS)


def test_rest_events_and_websockets_pass_nginx(redis_url: str, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    trust = ssl.create_default_context(cafile=str(certificates.authority))
    with (
        running_role("project", redis_url=redis_url),
        api(redis_url, trusted_proxies="127.0.0.1") as direct,
        nginx(tmp_path, certificates, direct.base_url.port or 0, free_port()) as port,
        httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=trust, timeout=TIMEOUT_SECONDS) as client,
    ):
        headers = post(client, [detection("NGNX")])
        scan = client.get("/api/patterns/scan?symbols=NGNX", headers=headers)
        assert scan.json()["pagination"]["total"] == 1
        with (
            client.stream("GET", "/api/patterns/stream") as stream,
            connect(f"wss://127.0.0.1:{port}/ws", ssl=trust, open_timeout=TIMEOUT_SECONDS) as socket,
        ):
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: ready"
            assert receive(socket)["type"] == "ready"
            post(client, [detection("LIVE")])
            assert any("LIVE" in line for line in lines)
            while "LIVE" not in str(receive(socket)):
                pass
        large = [detection(f"S{number}", note="x" * 20_000) for number in range(300)]
        assert len(str(large)) > 6_000_000
        assert client.post("/api/events", json=large).status_code == 201
