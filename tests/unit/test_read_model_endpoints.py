"""The endpoints of random read models: each answer equals the oracle's, as pages, behind cursors and as downloads."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

import falcon.testing
import orjson
import pyarrow as pa
import pytest
from falcon.asgi import App, Request, Response
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from projections.base import encode_row
from projections.queries import Equality, Positions, Query, RowQueries
from projections.versions import Build
from readapi.http.problems import handle_errors
from readapi.http.read_model import ReadModel
from readapi.http.request_metrics import RequestMetrics
from readapi.ports.read_models import LiveBuild
from readapi.read_models import pages
from readapi.read_models.resources import ServedReadModel, read_model_routes
from readapi.replica.replica import Replica
from tests.declarations import NOW, DeclaredProjection, declarations, queries_of, rows_of
from tests.oracles import rows as oracle


class LiveReplica:
    """A build that is always live."""

    def __init__(self, replica: Replica) -> None:
        self.current: LiveBuild[RowQueries[Any]] = LiveBuild(Build(1, 1), replica, {"market-0": 1})

    async def reached(self, positions: Positions, timeout: float) -> LiveBuild[RowQueries[Any]] | None:
        del positions, timeout
        return self.current


class Api:
    """The endpoints of one read model over its rows."""

    def __init__(self, projection: DeclaredProjection, rows: dict[str, Any], now: float) -> None:
        replica = Replica(projection())
        replica.put("market-0", [(key, encode_row(row, number)) for number, (key, row) in enumerate(rows.items(), 1)])
        model = ReadModel(projection(), LiveReplica(replica), 0)
        app: App[Request, Response] = App(middleware=[RequestMetrics(CollectorRegistry())])
        handle_errors(app, (), lambda _: None, is_host=False)
        for path, resource in read_model_routes(ServedReadModel(model, None, lambda: now)).items():
            app.add_route(path, resource)
        self._client = falcon.testing.TestClient(app)

    def get(self, path: str, accept: str = "application/json") -> falcon.testing.Result:
        return self._client.simulate_get(f"/api/read-models/declared{path}", headers={"Accept": accept})

    def page(self, parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
        response = self.get(f"?{urlencode(list(parameters))}")
        assert response.status_code == 200, response.text
        content: dict[str, Any] = response.json
        return content


def filter_parameters(query: Query) -> list[tuple[str, str]]:
    """The filters of a query as a client writes them."""
    parameters: list[tuple[str, str]] = []
    for each in query.filters:
        if isinstance(each, Equality):
            parameters += ((each.column, value) for value in sorted(each.values))
        else:
            parameters += (
                (f"{each.column}_{name}", repr(bound)) for name, bound in (("min", each.lowest), ("max", each.highest))
            )
    parameters.append(("sort_by", query.sort_by or "key"))
    parameters.append(("sort_order", "desc" if query.descending else "asc"))
    return parameters


def is_writable(query: Query) -> bool:
    """Return whether the API accepts the filters: each has values, no text is empty, and the bounds are ascending."""
    return all(
        (each.values and "" not in each.values)
        if isinstance(each, Equality)
        else -float("inf") < each.lowest <= each.highest < float("inf")
        for each in query.filters
    )


def cell(value: Any) -> str:
    """A value as a field of CSV."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_pages_cursors_and_downloads_have_the_rows_of_the_oracle(data: st.DataObject) -> None:
    projection = data.draw(declarations())
    rows = data.draw(rows_of(projection))
    query = data.draw(queries_of(projection).filter(is_writable))._replace(now=NOW, offset=0, after=None, limit=3)
    api = Api(projection, rows, NOW)
    parameters = filter_parameters(query)
    expected = oracle.page(projection, rows, oracle.asked(projection, query)._replace(limit=100))
    listed = list(pages_behind_cursors(api, parameters))
    assert {content["pagination"]["total"] for content in listed} == {expected.total}
    assert [row["key"] for content in listed for row in content["rows"]] == expected.keys
    second = api.page([*parameters, ("per_page", "3"), ("page", "2")])
    assert [row["key"] for row in second["rows"]] == expected.keys[3:6]
    _check_downloads(api, f"?{urlencode(parameters)}", projection, [(key, rows[key]) for key in expected.keys])


def pages_behind_cursors(api: Api, parameters: list[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield the pages of three rows from the first to the last."""
    cursor = None
    while True:
        content = api.page([*parameters, ("per_page", "3"), *([("cursor", cursor)] if cursor else [])])
        yield content
        cursor = content["next"]
        if cursor is None:
            return


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_pages_that_large_rows_end_early_lead_to_all_rows(data: st.DataObject) -> None:
    projection = data.draw(declarations())
    rows = data.draw(rows_of(projection))
    query = data.draw(queries_of(projection).filter(is_writable))._replace(now=NOW, offset=0, after=None, limit=100)
    api, parameters = Api(projection, rows, NOW), filter_parameters(query)
    max_bytes = data.draw(st.sampled_from((1, 300, 600)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_BYTES", max_bytes)
        listed = list(pages_behind_cursors(api, parameters))
    for content in listed:
        assert content["pagination"]["per_page"] == 3
        assert len(content["rows"]) <= 1 or sum(len(orjson.dumps(row)) for row in content["rows"]) <= max_bytes
    keys = [row["key"] for content in listed for row in content["rows"]]
    assert keys == oracle.page(projection, rows, oracle.asked(projection, query)).keys


def _check_downloads(api: Api, path: str, projection: DeclaredProjection, expected: list[tuple[str, Any]]) -> None:
    names = ["key", *projection.columns]
    documents = [{"key": key, **{name: getattr(row, name) for name in projection.columns}} for key, row in expected]
    lines = api.get(path, "application/x-ndjson").text.splitlines()
    assert [{name: each[name] for name in names} for each in map(orjson.loads, lines)] == documents
    header, *records = csv.reader(io.StringIO(api.get(path, "text/csv").text))
    assert header == [*names, "position"]
    assert [record[:-1] for record in records] == [[cell(value) for value in each.values()] for each in documents]
    table = pa.ipc.open_stream(api.get(path, "application/vnd.apache.arrow.stream").content).read_all()
    assert [{name: each[name] for name in names} for each in table.to_pylist()] == documents


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_single_rows_and_counts_equal_the_oracle(data: st.DataObject) -> None:
    projection = data.draw(declarations())
    rows = data.draw(rows_of(projection))
    api = Api(projection, rows, NOW)
    for key, row in rows.items():
        response = api.get(f"/{quote(key, safe='')}")
        if oracle.has_ended(projection, row, NOW):
            assert response.status_code == 404
        else:
            shown = {name: response.json["row"][name] for name in ("key", *projection.columns)}
            assert shown == {"key": key, **{name: getattr(row, name) for name in projection.columns}}
            provenance = response.json["provenance"]
            assert response.json["row"]["position"] == f"{provenance['log']}={provenance['position']}"
    assert api.get("/absent").status_code == 404
    for count in projection.counts:
        content = api.get(f"/counts/{count.name}").json
        groups, total, distinct = oracle.counts(projection, rows, count.name, NOW)
        assert (list(content["counts"].items()), content["total"], content["distinct"]) == (groups, total, distinct)


@given(st.data())
@settings(max_examples=10, deadline=None)
def test_an_unknown_parameter_or_member_is_refused_with_the_known_ones(data: st.DataObject) -> None:
    projection = data.draw(declarations())
    api = Api(projection, {}, NOW)
    for parameters, known in (("absent=1", "per_page"), ("fields=absent", "position"), ("sort_by=absent", "key")):
        refused = api.get(f"?{parameters}")
        assert refused.status_code == 400
        assert known in refused.json["detail"]
    numbers = [name for name, column in projection.columns.items() if column.range]
    for name in numbers:
        refused = api.get(f"?{name}_min=many")
        assert (refused.status_code, refused.json["errors"][0]["field"]) == (400, f"{name}_min")
