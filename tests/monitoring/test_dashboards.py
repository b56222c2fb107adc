"""The boards: what is committed is what the code says, Grafana can import it, and its queries are sound."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, Gauge, Info, start_http_server

from gsi.jobs.state import JobState
from monitoring.board import WIDTH, Board, Kind, Panel, Query, place_panels
from monitoring.boards import BOARDS, ROOT, render_files
from monitoring.check import (
    NEEDS_BY_PREFIX,
    Pass,
    examine,
    find_need,
    list_questions,
    read_alerts,
    replace_rates,
    shorten_rules,
    shorten_windows,
)
from monitoring.demo_run import DemoRun
from monitoring.prometheus_server import Prometheus, Target, run_prometheus
from monitoring.promql import (
    ALL,
    VARIABLES,
    coordinators,
    fill_in,
    find_metrics,
    find_required_parts,
)
from monitoring.queue_board import by_queue
from tests.conftest import wait_until

FILES = {board.uid: ROOT / "helm" / "dashboards" / f"{board.uid}.json" for board in BOARDS}
QUERIES = [
    pytest.param(panel, query, id=f"{board.uid}/{panel.title}/{place}")
    for board in BOARDS
    for panel in board.panels
    for place, query in enumerate(panel.queries)
]
RECORDED = {
    rule["record"] for group in yaml.safe_load(shorten_rules())["groups"] for rule in group["rules"] if "record" in rule
}
PARTS_OF_A_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")
SCRAPED = {"namespace", "release", "queue"}
OF_THE_QUEUE = {
    "gsi_stream_lag",
    "gsi_stream_pending",
    "gsi_oldest_waiting_seconds",
    "gsi_lease_age_seconds",
    "gsi_dead_jobs",
    "gsi_delayed_jobs",
    "gsi_parked_jobs",
    "gsi_submissions_refused",
    "gsi_queue_paused",
}


def expr_of(query: Query) -> str:
    return fill_in(query.expr, {}, "1m", "1h")


def loaded(board: Board) -> Any:
    return json.loads(FILES[board.uid].read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("path", "text"), list(render_files()), ids=lambda value: value.name if isinstance(value, Path) else ""
)
def test_what_is_committed_is_what_the_code_says(path: Path, text: str) -> None:
    """Changing a board without ``make dashboards ARGS=--write`` fails here."""
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_grafana_can_import_a_board(board: Board) -> None:
    """It has a schema version, its own uid, panels with ids of their own, a title and a description each."""
    written = loaded(board)
    assert written["schemaVersion"] >= 36  # since Grafana 9.1, references to data sources are objects
    assert written["uid"] == board.uid
    assert written["title"] == board.title
    assert "id" not in written  # a database's number: an import must not bring one
    ids = [panel["id"] for panel in written["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] and (panel["type"] == "row" or panel["description"]) for panel in written["panels"])
    assert len({other.uid for other in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_every_panel_asks_the_chosen_data_source(board: Board) -> None:
    """No panel, query or variable names a data source that only one installation has."""
    written = loaded(board)
    panels = [panel for panel in written["panels"] if panel["type"] not in {"row", "text"}]
    asking = [*panels, *(target for panel in panels for target in panel["targets"])]
    asking += [variable for variable in written["templating"]["list"] if variable["type"] == "query"]
    assert asking
    assert {json.dumps(each["datasource"], sort_keys=True) for each in asking} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_variables_are_all_unless_chosen(board: Board) -> None:
    """The value of "All" is the expression that a missing label matches, too."""
    source, *others = loaded(board)["templating"]["list"]
    assert (source["name"], source["type"]) == ("datasource", "datasource")
    assert tuple(variable["name"] for variable in others) == VARIABLES
    for variable in others:
        assert variable["includeAll"]
        assert variable["allValue"] == ALL
        assert variable["current"]["value"] == "$__all"


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_no_panel_covers_another(board: Board) -> None:
    """The places of the panels fill the grid without overlap, in rows."""
    places = [panel["gridPos"] for panel in loaded(board)["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert not [(one, other) for one, other in combinations(places, 2) if overlap(one, other)]


def overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    side_by_side = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
    one_above_the_other = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
    return not side_by_side and not one_above_the_other


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_the_numbers_of_a_board_fill_one_line(board: Board) -> None:
    """A wider row breaks, and half of what is to be seen at a glance stands below the other half."""
    assert sum(panel.width for panel in board.rows[0].panels) == WIDTH


def test_panels_that_do_not_fit_go_to_the_next_line() -> None:
    """A line is as deep as its deepest panel."""
    panels = [Panel("-", "-", Kind.LINES, width=12, height=height) for height in (8, 5, 4)]
    assert [(column, line) for _, column, line in place_panels(panels)] == [(0, 0), (12, 0), (0, 8)]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_board_leads_to_the_others_with_what_was_chosen(board: Board) -> None:
    """Links keep variables and time."""
    links = loaded(board)["links"]
    assert {link["url"] for link in links} == {f"/d/{other.uid}" for other in BOARDS if other is not board}
    assert all(link["includeVars"] and link["keepTime"] for link in links)


PANELS = [pytest.param(panel, id=f"{board.uid}/{panel.title}") for board in BOARDS for panel in board.panels]


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_leads_to_a_section_and_to_a_view_that_exist(panel: Panel) -> None:
    """The alert has a rule, whose name is its place in the runbook; the page's router knows the route."""
    assert panel.alert in {"", *(question.where.removeprefix("alert ") for question in list_questions())}
    routes = (ROOT / "services/gateway/web/page/routes.js").read_text(encoding="utf-8")
    known = {found.replace("\\/", "/") for found in re.findall(r"pattern: /\^(\S+?)\$/", routes)}
    assert panel.page.partition("?")[0] in {"", *known}
    asked = parse_qs(panel.page.partition("?")[2])
    filters = re.search(r"const FILTERS = \[(.+)\]", (ROOT / "services/gateway/web/page/jobs.js").read_text("utf-8"))
    assert filters
    assert set(asked) <= set(re.findall(r'"(\w+)"', filters[1]))
    for name in re.findall(r"\$\{__field\.labels\.(\w+)\}", panel.page):
        assert all(re.search(rf"\b{name}\b", query.legend) for query in panel.queries)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_a_board_of_its_own_has_no_link_to_an_address_that_nobody_knows(board: Board) -> None:
    """A board that is imported by hand shows no dead link."""
    assert not re.search(r"GATEWAY_URL|RUNBOOK_URL|https?://", FILES[board.uid].read_text(encoding="utf-8"))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_graphs_are_marked_where_alerts_fired_and_processes_started(board: Board) -> None:
    """By queries that a Prometheus reads, of the chosen release and data source."""
    marks = loaded(board)["annotations"]["list"]
    assert {mark["name"] for mark in marks} == {"Alerts", "Starts"}
    for mark in marks:
        assert mark["datasource"]["uid"] == "${datasource}"
        assert "$release" in mark["expr"]
        promql_parser.parse(fill_in(mark["expr"], {}, "1m", "1h"))


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_a_query_names_series_that_are_documented(panel: Panel, query: Query) -> None:
    """Each metric is in docs/metrics.md, is recorded by our rules, or is of KEDA and its panel says so."""
    documented = set(re.findall(r"`((?:gsi_|vllm:)\w+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
    foreign = tuple(prefix for prefix in NEEDS_BY_PREFIX if not prefix.startswith("gsi_"))
    named = {name for name in find_metrics(expr_of(query)) - RECORDED if not name.startswith(foreign)}
    assert {name for name in named if not {name, PARTS_OF_A_HISTOGRAM.sub("", name)} & documented} == set()


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_only_what_needs_a_gpu_or_kubernetes_is_exempt(panel: Panel, query: Query) -> None:
    """A panel is marked exactly if its series say so."""
    assert panel.needs is find_need(find_metrics(expr_of(query)))


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_a_label_that_scraping_adds_may_be_missing(panel: Panel, query: Query) -> None:
    """Every matcher on such a label is a regular expression, and with "All" one that matches no label at all."""
    matchers = [matcher for selector in selectors(expr_of(query)) for matcher in selector.matchers.matchers]
    scraped = [matcher for matcher in matchers if matcher.name in SCRAPED]
    assert [str(matcher.op) for matcher in scraped] == [str(promql_parser.MatchOp.Re)] * len(scraped)
    assert {matcher.value for matcher in scraped} <= {ALL}


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_the_queue_s_gauges_are_counted_once(panel: Panel, query: Query) -> None:
    """Every coordinator reports the same queue: the maximum of each queue stands before any sum."""
    for name in find_metrics(expr_of(query)) & OF_THE_QUEUE:
        assert re.search(rf"max by \(namespace, release, queue\) \({name}\{{", query.expr)


@pytest.mark.parametrize(("panel", "query"), QUERIES)
def test_nothing_is_divided_by_zero(panel: Panel, query: Query) -> None:
    """A divisor is kept above 0 or cannot be 0: a quotient is absent, and not NaN, while nothing happens."""
    never_zero = {"gsi_rpc_limit", "gsi_gpu_memory_total_bytes"}
    for node in nodes(expr_of(query)):
        if isinstance(node, promql_parser.BinaryExpr) and str(node.op) == "/":
            divisor = node.rhs.prettify()
            assert re.search(r">\s*0\s*\)$", divisor) or find_metrics(divisor) <= never_zero


def nodes(expr: str) -> list[Any]:
    found: list[Any] = []
    promql_parser.walk(promql_parser.parse(expr), pre_visit=found.append)
    return found


def selectors(expr: str) -> list[Any]:
    return [node for node in nodes(expr) if isinstance(node, promql_parser.VectorSelector)]


def test_the_colours_of_states_name_every_state() -> None:
    """A state that is added gets a colour, but for RUNNING, which no run leaves a job in."""
    [panel] = [panel for board in BOARDS for panel in board.panels if panel.title == "Runs that end, by state"]
    assert set(panel.colours) == {state.value for state in JobState} - {JobState.RUNNING.value}


@pytest.mark.parametrize(
    ("expr", "parts"),
    [
        ("sum(a)", ["sum(a)"]),
        ("a > 0", ["(a > bool 0)"]),
        ("a or b", ["a", "b"]),
        ("(a or b) or vector(0)", ["a", "b", "vector(0)"]),
        ("a unless b", ["a"]),
        ("a > 0 unless b > 0", ["(a > bool 0)"]),
        ("a > 1 and on (x) b < 2", ["(a > bool 1) and on (x) (b < bool 2)"]),
        ("absent(a)", ["a"]),
        ("sum(a) / (sum(b) > 0)", ["sum(a) / (sum(b) > 0)"]),
    ],
)
def test_the_parts_of_an_expression_that_need_an_answer(expr: str, parts: list[str]) -> None:
    """The verdict is left out, what it is about is not."""
    assert [squeezed(part) for part in find_required_parts(expr)] == parts


def squeezed(expr: str) -> str:
    return re.sub(r"\s+", " ", expr)


def test_long_windows_are_shortened_and_short_ones_are_not() -> None:
    """Also offsets; names with an hour in them stay."""
    assert shorten_windows("a:ratio1h / rate(b[1d] offset 1h) > rate(c[30m])") == (
        "a:ratio1h / rate(b[45s] offset 45s) > rate(c[30m])"
    )


def test_a_rate_s_place_is_taken_by_its_counter() -> None:
    """The rest of the query, what it is filtered by included, stays."""
    assert replace_rates('sum(rate(a{b="c"}[$__range]) unless on (i) d{e!~"$f"})') == (
        'sum(last_over_time(a{b="c"}[6s]) unless on (i) d{e!~"$f"})'
    )


def test_an_alert_needs_what_its_recorded_series_need() -> None:
    """An exemption is found through recording rules."""
    rules = """
groups:
  - name: g
    rules:
      - {record: r, expr: avg(gsi_gpu_utilization_ratio)}
      - {alert: Idle, expr: r < 0.1}
      - {alert: Stalled, expr: gsi_stream_lag > 0}
"""
    assert [(name, need is not None) for name, _, need in read_alerts(rules)] == [("Idle", True), ("Stalled", False)]


def test_a_system_that_nobody_scrapes_is_found_out(tmp_path: Path) -> None:
    """Every query that is not exempt is listed, with each way in which it has no data."""
    with run_prometheus(tmp_path, [], shorten_rules()) as server:
        findings = examine([Pass("empty", server, {})], DemoRun(0, 60, 60, []))
    asked = list(list_questions())
    assert findings.queries == len(asked)
    assert findings.with_data == 0
    assert len(findings.exempt) == sum(question.needs is not None for question in asked) > 0
    no_data = [problem for problem in findings.problems if problem.startswith("no data (empty)")]
    assert len(no_data) == len(asked) - len(findings.exempt)
    assert len(findings.problems) == len(no_data) + len(VARIABLES)


@contextmanager
def coordinator(lag: int, target: str | None) -> Iterator[Target]:
    """Serve what the dashboards need of a coordinator; one without a target has not reached its services yet."""
    registry = CollectorRegistry()
    Gauge("gsi_stream_lag", "-", registry=registry).set(lag)
    if target:
        Info("gsi_models", "-", registry=registry).info({"draft": "d", "target": target, "prm": "p"})
    server, thread = start_http_server(0, "127.0.0.1", registry)
    try:
        yield Target(f"127.0.0.1:{server.server_port}", {})
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Ten coordinators of one queue: five with target a, four with b, one that has not told."""
    with ExitStack() as exits:
        targets = [exits.enter_context(coordinator(7, target)) for target in [*"aaaaabbbb", None]]
        yield exits.enter_context(run_prometheus(tmp_path_factory.mktemp("fleet"), targets, "groups: []"))


async def test_ten_coordinators_show_a_queue_once(fleet: Prometheus) -> None:
    """Seven jobs wait, not seventy."""
    expr = fill_in(f"sum ({by_queue('gsi_stream_lag')})", {}, "", "")
    await all_scraped(fleet)
    assert value(fleet, expr) == [7]


@pytest.mark.parametrize(("model", "count"), [(ALL, 10), ("a", 6), ("b", 5), ("d", 10), ("nobody's", 1)])
async def test_a_chosen_model_leaves_out_those_that_run_others(fleet: Prometheus, model: str, count: int) -> None:
    """By any of the three roles; a coordinator that has not told yet stays: it may be one of those."""
    expr = fill_in(f"count ({coordinators('gsi_stream_lag')})", {"model": model}, "", "")
    await all_scraped(fleet)
    assert value(fleet, expr) == [count]


async def all_scraped(server: Prometheus) -> None:
    async def found() -> bool:
        return value(server, "count (gsi_stream_lag)") == [10]

    await wait_until(found, "ten coordinators were scraped")


def value(server: Prometheus, expr: str) -> list[float]:
    return [answer.points[0][1] for answer in server.query(expr, time.time())]
