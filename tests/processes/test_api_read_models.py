"""``/api/read-models`` and ``tickview query`` on a real service: rows, counts, downloads, the past, refusals."""

import csv
import io
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import httpx
import orjson
import pyarrow as pa
import pytest

from projections.registry import READ_MODELS
from tests import servers
from tests.processes.api_service import detection, post
from tests.processes.archiving_service import archiving_service, backtest_progress
from tests.processes.roles import tickview

SYMBOLS = ("AAPL", "MSFT", "BRK.B")


class Scenario(NamedTuple):
    """A service after announcements of patterns, a backtest and a health report."""

    client: httpx.Client
    redis_url: str
    header: dict[str, str]
    """The header with the positions of all announcements."""
    before_last: float
    """A moment before the last announcement."""

    def get(self, path: str, status: int = 200, **headers: str) -> httpx.Response:
        response = self.client.get(f"/api/read-models{path}", headers=self.header | headers)
        assert response.status_code == status, response.text
        return response

    def keys(self, query: str) -> list[str]:
        return [row["symbol"] for row in self.get(f"/patterns?{query}").json()["rows"]]


@pytest.fixture(scope="module")
def scenario(postgres_18_dsn: str) -> Iterator[Scenario]:
    with (
        servers.valkey() as server,
        servers.new_database(postgres_18_dsn) as dsn,
        archiving_service(server.connection_url, dsn) as client,
    ):
        detections = [detection(symbol, confidence=0.5 + number / 10) for number, symbol in enumerate(SYMBOLS)]
        headers = [post(client, [*detections, backtest_progress("job", 0.5)])]
        before_last = time.time()
        headers.append(post(client, [detection("TSLA", confidence=0.95)]))
        positions = ",".join(header["TickView-Min-Position"] for header in headers)
        yield Scenario(client, server.connection_url, {"TickView-Min-Position": positions}, before_last)


def test_every_read_model_is_listed_with_its_declaration_and_state(scenario: Scenario) -> None:
    scenario.get("/patterns")
    listed = {model["name"]: model for model in scenario.get("").json()["read_models"]}
    assert set(listed) == set(READ_MODELS)
    patterns = listed["patterns"]
    version = READ_MODELS["patterns"].version
    assert (patterns["key"], patterns["version"], patterns["rows"], patterns["as_of"]) == ("id", version, 4, True)
    assert patterns["position"].startswith("market-0=")
    columns = {column["name"]: column for column in patterns["columns"]}
    assert columns["confidence"]["filters"] == ["confidence_min", "confidence_max"]
    assert columns["detected_at"]["unit"] == "epoch seconds"
    assert "by_symbol" in patterns["counts"]
    assert (listed["workspaces"]["scope"], listed["workspaces"]["rows"]) == (None, None)


def test_rows_are_filtered_sorted_and_paged(scenario: Scenario) -> None:
    assert scenario.keys("symbol=aapl,tsla&sort_by=symbol") == ["AAPL", "TSLA"]
    assert scenario.keys("confidence_min=0.65&confidence_max=0.8") == ["BRK.B"]
    assert scenario.keys("sort_by=symbol&sort_order=desc&per_page=2") == ["TSLA", "MSFT"]
    first = scenario.get("/patterns?per_page=3").json()
    assert (first["pagination"]["total"], len(first["rows"])) == (4, 3)
    assert scenario.keys(f"per_page=3&cursor={first['next']}") == ["AAPL"]
    compact = scenario.get("/patterns?fields=compact&symbol=TSLA").json()["rows"]
    assert (compact[0]["conf"], compact[0]["pattern"]) == (0.95, "WeeklyBO")


def test_an_answer_has_an_etag(scenario: Scenario) -> None:
    answer = scenario.get("/backtests?status=processing")
    assert [row["job_id"] for row in answer.json()["rows"]] == ["job"]
    assert scenario.get("/backtests?status=processing", 304, **{"If-None-Match": answer.headers["ETag"]}).content == b""


def test_one_row_is_shown_with_its_provenance(scenario: Scenario) -> None:
    [row] = scenario.get("/patterns?symbol=AAPL").json()["rows"]
    answer = scenario.get(f"/patterns/{row['id']}").json()
    assert answer["row"] == row
    assert answer["provenance"]["event_id"] == row["event_id"]
    assert scenario.get("/patterns/absent", 404).json()["detail"] == "there is no row 'absent' in patterns"
    day = scenario.get("/activity?event_type=PatternDetected").json()["rows"][0]
    assert scenario.get(f"/activity/{day['key']}").json()["row"]["events"] == day["events"] == 4


def test_declared_counts_are_served(scenario: Scenario) -> None:
    counted = scenario.get("/patterns/counts/by_symbol").json()
    assert (counted["counts"], counted["total"]) == (dict.fromkeys(sorted(("TSLA", *SYMBOLS), reverse=True), 1), 4)
    assert "by_type" in scenario.get("/patterns/counts/absent", 404).json()["detail"]


def test_all_rows_are_downloaded_as_csv_ndjson_and_arrow(scenario: Scenario) -> None:
    table = csv.DictReader(io.StringIO(scenario.get("/patterns", Accept="text/csv").text))
    assert [row["symbol"] for row in table] == ["TSLA", "BRK.B", "MSFT", "AAPL"]
    lines = scenario.get("/patterns?fields=symbol", Accept="application/x-ndjson").text.splitlines()
    assert [orjson.loads(line) for line in lines] == [{"symbol": name} for name in ("TSLA", "BRK.B", "MSFT", "AAPL")]
    arrow = scenario.get("/patterns?symbol=TSLA", Accept="application/vnd.apache.arrow.stream").content
    assert pa.ipc.open_stream(arrow).read_all().column("confidence").to_pylist() == [0.95]
    assert "page does not apply" in scenario.get("/patterns?page=1", 400, Accept="text/csv").json()["detail"]


def test_rows_are_answered_as_of_a_moment(scenario: Scenario) -> None:
    moment = datetime.fromtimestamp(scenario.before_last, UTC).isoformat().replace("+00:00", "Z")
    past = scenario.get(f"/patterns?as_of={moment}").json()
    assert [row["symbol"] for row in past["rows"]] == ["BRK.B", "MSFT", "AAPL"]
    assert past["performance"]["source"] == "archive"
    lines = scenario.get(f"/patterns?as_of={moment}&fields=symbol", Accept="text/csv").text.split()
    assert lines == ["symbol", "BRK.B", "MSFT", "AAPL"]
    assert scenario.get(f"/patterns?as_of={time.time() + 60}", 400).json()["errors"][0]["field"] == "as_of"


def test_unknown_values_are_refused_or_explained(scenario: Scenario) -> None:
    refused = scenario.get("/backtests?status=foo", 400).json()["detail"]
    assert "processing" in refused
    answer = scenario.get("/patterns?pattern=weekly_breakout").json()
    assert (answer["rows"], "Weekly_Breakout" in answer["hint"]) == ([], True)
    assert "hint" not in scenario.get("/patterns?symbol=AAPL&confidence_min=0.99").json()
    assert "symbol" in scenario.get("/patterns?sector=Technology", 400).json()["detail"]


def test_a_private_read_model_has_no_endpoint(scenario: Scenario) -> None:
    assert scenario.get("/workspaces", 404).json()["type"].endswith("not-found")


def test_the_query_command_prints_rows_as_a_table_json_and_csv(scenario: Scenario) -> None:
    def query(*arguments: str) -> tuple[int, str]:
        port = scenario.client.base_url.port
        completed = tickview("query", *arguments, redis_url=scenario.redis_url, port=port, data="/nonexistent")
        return completed.returncode, (completed.stdout + completed.stderr).decode()

    code, table = query("patterns", "symbol=AAPL,TSLA", "fields=symbol,confidence", "--sort", "-symbol")
    assert (code, table.split()) == (0, ["symbol", "confidence", "TSLA", "0.95", "AAPL", "0.5", "2", "of", "2", "rows"])
    code, text = query("patterns", "fields=symbol", "--json")
    assert (code, [row["symbol"] for row in orjson.loads(text)["rows"]]) == (0, ["TSLA", "BRK.B", "MSFT", "AAPL"])
    code, text = query("patterns", "fields=symbol", "--csv", "--as-of", str(scenario.before_last))
    assert (code, text.split()) == (0, ["symbol", "BRK.B", "MSFT", "AAPL"])
    code, table = query("patterns", "fields=symbol", "per_page=1")
    assert (code, "1 of 4 rows; page=2 shows the next rows" in table) == (0, True)
    page = orjson.loads(query("patterns", "per_page=1", "--json")[1])
    code, table = query("patterns", "fields=symbol", "per_page=1", f"cursor={page['next']}")
    assert (code, "1 of 4 rows; cursor=" in table, page["next"] in table) == (0, True, False)
    for arguments, reason in (
        (("patterns", "sector=x"), "known: sort_by"),
        (("absent",), "no read model absent"),
        (("patterns", "symbol"), "COLUMN=VALUE"),
        (("patterns", "--csv", "--json"), "cannot be combined"),
        (("symbols", "--as-of", "1"), "as_of is not a known parameter"),
    ):
        code, text = query(*arguments)
        assert (code, reason in text) == (1, True), text
