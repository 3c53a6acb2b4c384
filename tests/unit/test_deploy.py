"""The files of docs/deploy name commands, settings, endpoints, metrics and runbooks that exist."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from infra.cli.commands import COMMANDS
from infra.cli.up import ROLES
from infra.settings import Settings
from infra.settings.settings import variable
from tests.operations_page import OPERATIONS, documented_metrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
QUERIES = [
    *(rule["expr"] for rule in RULES),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "tickview.yaml").read_text()))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_promql_of_documented_metrics_and_labels(query: str) -> None:
    promql_parser.parse(query)
    metrics, used = documented_metrics(), set(re.findall(r"tickview_\w+", query))
    assert used
    assert used <= metrics.keys()
    labels = set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!)", query))
    labels |= {label for names in re.findall(r"by \(([^)]*)\)", query) for label in names.split(", ")}
    assert labels <= set.union(*(metrics[name] for name in used))


def test_every_documented_metric_is_on_the_dashboard_or_in_an_alert() -> None:
    names = {name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") for name in documented_metrics()}
    shown = set(re.findall(r"tickview_\w+", " ".join(QUERIES)))
    hidden = {name for name in names if not any(found.startswith(name) for found in shown)}
    assert hidden == {
        "tickview_alerts_attempts_total",
        "tickview_archive_position",
        "tickview_archive_verified_events",
        "tickview_push_resumed_total",
        "tickview_replica_bytes",
        "tickview_replica_rows",
        "tickview_segment_lag_events",
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_a_summary_and_a_runbook(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["summary"]
    runbooks = OPERATIONS.partition("## Runbooks")[2]
    headings = re.findall(r"^### (.*)$", runbooks, re.MULTILINE)
    assert rule["annotations"]["runbook"] in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_runbook_names_its_tests() -> None:
    first, *runbooks = re.split(r"^### ", OPERATIONS.partition("## Runbooks")[2], flags=re.MULTILINE)[1:]
    assert first.startswith("First look")
    assert [book.splitlines()[0] for book in runbooks if not re.search(r"`tests/\w+/test_\w+\.py`", book)] == []


def containers() -> Iterator[dict[str, Any]]:
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            yield from manifest["spec"]["template"]["spec"]["containers"]


def test_kubernetes_and_compose_run_every_role_of_tickview_up() -> None:
    assert {container["args"][0] for container in containers()} == set(ROLES)
    composed = {service["command"] for service in COMPOSE["services"].values() if service.get("command") in COMMANDS}
    assert composed == set(ROLES)


@pytest.mark.parametrize(
    "file", sorted(path for path in DEPLOY.rglob("*") if path.is_file()), ids=lambda path: path.name
)
def test_a_file_names_settings_that_exist(file: Path) -> None:
    settings = {variable(name) for name in Settings.model_fields}
    assert set(re.findall(r"TICKVIEW_\w*[A-Z]", file.read_text())) <= settings


def test_containers_have_no_rights_and_a_read_only_root() -> None:
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    [serve] = [container for container in containers() if container["args"] == ["serve"]]
    assert serve["livenessProbe"]["httpGet"]["path"] == "/api/health/live"
    assert serve["readinessProbe"]["httpGet"]["path"] == "/api/health/ready"
    roles = [service for service in COMPOSE["services"].values() if service["image"] == "tickview"]
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in roles)


def test_the_service_has_no_name_whose_variables_are_settings() -> None:
    names = [manifest["metadata"]["name"] for manifest in MANIFESTS if manifest["kind"] == "Service"]
    assert not [name for name in names if name.startswith("tickview")]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "systemd" / "tickview@.service").read_text().replace("/opt/tickview/bin/tickview", "/bin/true")
    # The restart steps are newer than Debian's systemd, which ignores them with a warning.
    unit = tmp_path / "tickview@record.service"
    unit.write_text(re.sub(r"^Restart(Steps|MaxDelaySec)=.*\n", "", text, flags=re.MULTILINE))
    completed = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert str(unit.name) not in completed.stderr
