"""A board as Grafana's JSON, built with Grafana's own SDK.

The text is stable: keys sorted, nulls left out, panel ids in the order of the board.
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

from monitoring.board import WIDTH, Board, Kind, Panel, Query, placed
from monitoring.promql import ALL

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
INFOS = '__name__=~"gsi_models_info|gsi_model_info"'
IN_NAMESPACE = 'namespace=~"$namespace"'
IN_RELEASE = f'{IN_NAMESPACE},release=~"$release"'
CHOICES = {  # in the order in which they narrow each other down: label, PromQL selector
    "namespace": f"{{{INFOS}}}",
    "release": f"{{{INFOS},{IN_NAMESPACE}}}",
    "queue": f"gsi_stream_lag{{{IN_RELEASE}}}",
    "model": f"gsi_model_info{{{IN_RELEASE}}}",
}
Builder = Any  # the SDK's builders share methods, but no type that has them


def grafana_json(board: Board, boards: Sequence[Board]) -> str:
    """Return the text of a board's file; ``boards`` are those that it links to."""
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
        .links([_link(other) for other in boards if other is not board])
        .variables([_datasource(), *(_choice(name, selector) for name, selector in CHOICES.items())])
    )
    number, line = 1, 0
    for row in board.rows:
        built.with_row(dashboard.Row(row.title).id(number).grid_pos(GridPos(h=1, w=WIDTH, x=0, y=line)))
        number, line = number + 1, line + 1
        for panel, column, below in placed(row.panels):
            place = GridPos(h=panel.height, w=panel.width, x=column, y=line + below)
            built.with_panel(_panel(panel).id(number).grid_pos(place))
            number += 1
        line += max(below + panel.height for panel, _, below in placed(row.panels))
    plain = json.loads(JSONEncoder().encode(built.build()))
    return json.dumps(_without_nulls(plain), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _link(board: Board) -> dashboard.DashboardLink:
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


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _choice(name: str, selector: str) -> dashboard.QueryVariable:
    """Return a variable with all values of a label; "All", its default, also matches series without the label."""
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


def _panel(panel: Panel) -> Builder:
    builder = _OF_KIND[panel.kind](panel).title(panel.title).description(panel.description)
    if panel.kind is Kind.TEXT:
        return builder
    builder = builder.datasource(SOURCE).unit(panel.unit)
    for name, value in (("decimals", panel.decimals), ("min", panel.minimum), ("max", panel.maximum)):
        if value is not None:
            builder = getattr(builder, name)(value)
    if panel.steps:
        builder = builder.thresholds(_thresholds(panel.steps))
    if panel.words:
        results = {str(value): ValueMappingResult(text=word) for value, word in panel.words.items()}
        builder = builder.mappings([ValueMap(options=results)])
    for shown, colour in panel.colours.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        builder = builder.override_by_name(shown, [DynamicConfigValue(id_val="color", value=fixed)])
    return builder.targets([_target(panel.kind, query, place) for place, query in enumerate(panel.queries)])


def _target(kind: Kind, query: Query, place: int) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expr).ref_id(chr(ord("A") + place)).datasource(SOURCE)
    target = target.instant() if kind.is_instant else target.range()
    if kind is Kind.BARS:
        return target.format(PromQueryFormat.TABLE)
    target = target.format(PromQueryFormat.HEATMAP if kind is Kind.HEATMAP else PromQueryFormat.TIME_SERIES)
    return target.legend_format(query.legend or "__auto")


def _number(panel: Panel) -> Builder:
    has_verdict = bool(panel.steps)
    return (
        stat.Panel()
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.VALUE if has_verdict else BigValueColorMode.NONE)
    )


def _lines(_: Panel) -> Builder:
    return (
        timeseries.Panel()
        .line_width(2)
        .fill_opacity(5)
        .show_points(VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
    )


def _stack(panel: Panel) -> Builder:
    stacking = common.StackingConfig().mode(StackingMode.NORMAL).group("A")
    return _lines(panel).draw_style(GraphDrawStyle.LINE).line_width(1).fill_opacity(60).stacking(stacking)


def _bars(panel: Panel) -> Builder:
    """Return a bar a value of a label: the table of an instant query, in the label's order."""
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


def _heatmap(panel: Panel) -> Builder:
    return (
        heatmap.Panel()
        .calculate(False)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64))
        .cell_values(heatmap.CellValues().unit(panel.unit))
        .show_legend()
    )


def _text(panel: Panel) -> Builder:
    return text.Panel().content(panel.description)


_OF_KIND = {
    Kind.NUMBER: _number,
    Kind.LINES: _lines,
    Kind.STACK: _stack,
    Kind.BARS: _bars,
    Kind.HEATMAP: _heatmap,
    Kind.TEXT: _text,
}


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)


def _thresholds(steps: Sequence[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    values = [
        Threshold(value=None if place == 0 else value, color=colour) for place, (value, colour) in enumerate(steps)
    ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(values)


def _without_nulls(value: Any) -> Any:
    """Return plain values without keys that hold null, but for a first threshold, which must say so."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(held) for key, held in value.items() if held is not None or _is_threshold(value)}
    return [_without_nulls(held) for held in value] if isinstance(value, list) else value


def _is_threshold(value: Mapping[str, Any]) -> bool:
    return set(value) == {"color", "value"}
