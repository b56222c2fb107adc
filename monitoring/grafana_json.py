"""A board as Grafana's JSON, built with Grafana's own SDK.

The text is stable: its keys are sorted, it has no nulls, and panel ids follow the order of the board.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    DataSourceRef,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataTransformerConfig,
    DynamicConfigValue,
    GridPos,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.board import WIDTH, Board, Kind, Panel, Query, place_panels
from monitoring.promql import ALL

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
INFOS = '__name__=~"gsi_models_info|gsi_model_info"'
IN_NAMESPACE = 'namespace=~"$namespace"'
IN_RELEASE = f'{IN_NAMESPACE},release=~"$release"'
CHOICES = {  # label and PromQL selector; each choice narrows down the choices after it
    "namespace": f"{{{INFOS}}}",
    "release": f"{{{INFOS},{IN_NAMESPACE}}}",
    "queue": f"gsi_stream_lag{{{IN_RELEASE}}}",
    "model": f"gsi_model_info{{{IN_RELEASE}}}",
}
ALERTS = f'ALERTS{{alertname=~"Gsi.+",alertstate="firing",{IN_RELEASE}}}'
STARTS = f"time() - process_start_time_seconds{{{IN_RELEASE}}} < 60"
Builder = Any  # the SDK's builders have methods in common, but no common type


def render_grafana_json(board: Board, boards: Sequence[Board]) -> str:
    """Return the text of a board's file. The board links to all other ``boards``."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags(["gsi"])
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .links([_build_link(other) for other in boards if other is not board])
        .variables(
            [
                dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
                *(_build_variable(name, selector) for name, selector in CHOICES.items()),
            ]
        )
    )
    for annotation in _build_annotations():
        built.annotation(annotation)
    number, line = 1, 0
    for row in board.rows:
        built.with_row(dashboard.Row(row.title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=line)))
        number, line = number + 1, line + 1
        for panel, column, below in place_panels(row.panels):
            place = GridPos(h=panel.height, w=panel.width, x=column, y=line + below)
            built.with_panel(_build_panel(panel).id(number).grid_pos(place))
            number += 1
        line += max(below + panel.height for panel, _, below in place_panels(row.panels))
    plain = json.loads(JSONEncoder().encode(built.build()))
    return json.dumps(_drop_nulls(plain), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _build_annotations() -> list[dashboard.AnnotationQuery]:
    """Return marks on every graph: what fired, and when processes started, as in a roll-out."""
    return [
        _build_annotation("Alerts", ALERTS, "red").title_format("{{alertname}}").text_format("{{severity}}"),
        _build_annotation("Starts", STARTS, "blue").title_format("{{role}} started").text_format("{{instance}}"),
    ]


def _build_annotation(name: str, expr: str, colour: str) -> dashboard.AnnotationQuery:
    return dashboard.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(expr)


def _build_link(board: Board) -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink(board.title)
        .type(DashboardLinkType.LINK)
        .url(f"/d/{board.uid}")
        .icon("dashboard")
        .tooltip(board.description)
        .include_vars(True)
        .keep_time(True)
        .target_blank(False)
    )


def _build_variable(name: str, selector: str) -> dashboard.QueryVariable:
    """Return a variable with all values of a label. Its default, "All", also matches series without the label."""
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": f"label_values({selector}, {name})", "refId": name})
        .definition(f"label_values({selector}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(ALL)
        .current(VariableOption(selected=True, text="All", value="$__all"))
    )


def _build_panel(panel: Panel) -> Builder:
    builder = _BUILDERS[panel.kind](panel).title(panel.title).description(panel.description)
    if panel.kind is Kind.TEXT:
        return builder
    builder = builder.datasource(SOURCE).unit(panel.unit)
    for name, value in (("decimals", panel.decimals), ("min", panel.minimum), ("max", panel.maximum)):
        if value is not None:
            builder = getattr(builder, name)(value)
    if panel.steps:
        builder = builder.thresholds(_build_thresholds(panel.steps))
    if panel.words:
        results = {str(value): ValueMappingResult(text=word) for value, word in panel.words.items()}
        builder = builder.mappings([ValueMap(options=results)])
    for shown, colour in panel.colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        builder = builder.override_by_name(shown, [DynamicConfigValue(id_val="color", value=fixed)])
    return builder.targets([_build_target(panel.kind, query, place) for place, query in enumerate(panel.queries)])


def _build_target(kind: Kind, query: Query, place: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place)).datasource(SOURCE)
    target = target.instant() if kind.is_instant else target.range()
    if kind is Kind.BARS:
        return target.format(PromQueryFormat.TABLE)
    target = target.format(PromQueryFormat.HEATMAP if kind is Kind.HEATMAP else PromQueryFormat.TIME_SERIES)
    return target.legend_format(query.legend or "__auto")


def _build_number(panel: Panel) -> Builder:
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE if panel.steps else BigValueColorMode.NONE)
    )


def _build_lines(_: Panel) -> Builder:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    return (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(5)
        .show_points(VisibilityMode.NEVER)
        .legend(legend.show_legend(True).calcs([]))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )


def _build_stack(panel: Panel) -> Builder:
    stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return _build_lines(panel).draw_style(GraphDrawStyle.LINE).line_width(1).fill_opacity(60).stacking(stacking)


def _build_bars(panel: Panel) -> Builder:
    """Return one bar per value of a label, in the label's order, from the table of an instant query."""
    label = panel.queries[0].legend
    keep = DataTransformerConfig(id_val="filterFieldsByName", options={"include": {"names": [label, "Value"]}})
    sort = DataTransformerConfig(id_val="sortBy", options={"sort": [{"field": label}]})
    return (
        barchart.Panel()
        .x_field(label)
        .transformations([keep, sort])
        .show_value(VisibilityMode.ALWAYS)
        .legend(common.VizLegendOptions().show_legend(False))
        .fill_opacity(80)
    )


def _build_heatmap(panel: Panel) -> Builder:
    return (
        heatmap.Panel()
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        .cell_values(heatmap.CellValues().unit(panel.unit))
        .show_legend()
    )


def _build_text(panel: Panel) -> Builder:
    return text.Panel().content(panel.description)


_BUILDERS = {
    Kind.NUMBER: _build_number,
    Kind.LINES: _build_lines,
    Kind.STACK: _build_stack,
    Kind.BARS: _build_bars,
    Kind.HEATMAP: _build_heatmap,
    Kind.TEXT: _build_text,
}


def _build_thresholds(steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    values = [
        Threshold(value=None if place == 0 else value, color=colour) for place, (value, colour) in enumerate(steps)
    ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(values)


def _drop_nulls(value: Any) -> Any:
    """Return plain values without keys whose value is null, except in a threshold: the first one must say null."""
    if isinstance(value, Mapping):
        is_threshold = set(value) == {"color", "value"}
        return {key: _drop_nulls(part) for key, part in value.items() if part is not None or is_threshold}
    return [_drop_nulls(part) for part in value] if isinstance(value, list) else value
