"""PromQL: building our queries, filling in Grafana's variables, and the parts of a query that must have an answer.

A function that builds PromQL is named after the expression that it returns.

Labels that scraping adds may be missing. Every matcher on such a label is ``=~`` a variable whose "All" is ``.*``,
which also matches a missing label. Most series have no label ``model``: that variable hides the processes that are
known to run other models, so a process that has not reported its model is shown.
"""

from collections.abc import Mapping

import promql_parser
from promql_parser import BinaryExpr, Call, Expr, ParenExpr, VectorSelector

RATE = "$__rate_interval"
RANGE = "$__range"
VARIABLES = ("namespace", "release", "queue", "model")
ALL = ".*"

_SERVICE = 'namespace=~"$namespace",release=~"$release"'
_COORDINATOR = f'{_SERVICE},queue=~"$queue"'
_OTHER_MODELS = 'gsi_models_info{draft!~"$model",target!~"$model",prm!~"$model"}'
_ANOTHER_MODEL = 'gsi_model_info{model!~"$model"}'
_COMPARISONS = ("==", "!=", "<=", "<", ">=", ">")


def coordinators(name: str, matchers: str = "", window: str = "") -> str:
    """Return a coordinator series of the chosen models, or with a window (``RATE``, ``RANGE``) its rate per second."""
    return f"{_rate(_selector(name, matchers, _COORDINATOR), window)} unless on (instance) {_OTHER_MODELS}"


def services(name: str, matchers: str = "", window: str = "") -> str:
    """Return a series of the model services, or its rate per second."""
    return f"{_rate(_selector(name, matchers, _SERVICE), window)} unless on (instance) {_ANOTHER_MODEL}"


def engines(name: str, window: str = "") -> str:
    """Return one of vLLM's own series, or its rate per second."""
    return _rate(_selector(name, 'model_name=~"$model"', _SERVICE), window)


def gateways(name: str, matchers: str = "", window: str = "") -> str:
    """Return a series of the gateways, or its rate per second. A gateway serves several queues and models."""
    return _rate(_selector(name, matchers, _SERVICE), window)


def exporters(name: str, matchers: str = "") -> str:
    """Return a series of the exporters. An exporter reads a queue, and knows no model."""
    return _selector(name, matchers, _COORDINATOR)


def recorded(name: str) -> str:
    """Return a series that a recording rule of ``helm/alerts`` makes of the coordinators' series."""
    return _selector(name, "", _COORDINATOR)


def gpus(name: str) -> str:
    """Return a GPU series, once per GPU although each process on the machine reports it."""
    return f"max by (uuid) ({_selector(name, '', _SERVICE)})"


def ratio(part: str, whole: str, matching: str = "") -> str:
    """Return a quotient that is absent, instead of NaN, where the denominator is 0."""
    return f"{part} / {matching + ' ' if matching else ''}({whole} > 0)"


def quantile(share: float, buckets: str, by: str = "le") -> str:
    """Return a quantile of a histogram's buckets."""
    return f"histogram_quantile({share:g}, sum by ({by}) ({buckets}))"


def fill_in(expr: str, chosen: Mapping[str, str], rate_interval: str, time_range: str) -> str:
    """Replace Grafana's variables in a query as Grafana does. A variable that is not chosen is "All"."""
    values = {"__rate_interval": rate_interval, "__range": time_range, **dict.fromkeys(VARIABLES, ALL), **chosen}
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(f"${name}", values[name])
    return expr


def find_metrics(expr: str) -> set[str]:
    """Return the metrics that an expression without variables names."""
    nodes: list[Expr] = []
    promql_parser.walk(promql_parser.parse(expr), pre_visit=nodes.append)
    return {node.name for node in nodes if isinstance(node, VectorSelector) and node.name}


def find_required_parts(expr: str) -> list[str]:
    """Return the parts of an expression that must have an answer, whatever its current values are.

    ``a or b``: a and b, each by itself. ``a unless b``: a. ``absent(a)``: a. ``a > 0``: the comparison becomes
    ``> bool``, which answers 0 or 1 where both sides have matching series; with ``and`` it does so for both sides
    together. A comparison inside arithmetic or a function stays, since it is part of the value.
    """
    return _split(promql_parser.parse(expr))


def _split(node: Expr) -> list[str]:
    match node:
        case ParenExpr():
            return _split(node.expr)
        case BinaryExpr() if str(node.op) == "or":
            return _split(node.lhs) + _split(node.rhs)
        case BinaryExpr() if str(node.op) == "unless":
            return _split(node.lhs)
    return [_drop_verdict(node)]


def _drop_verdict(node: Expr) -> str:
    match node:
        case ParenExpr():
            return f"({_drop_verdict(node.expr)})"
        case BinaryExpr() if str(node.op) in {"and", "or"}:
            sides = _drop_verdict(node.lhs), _drop_verdict(node.rhs)
            return f"{sides[0]} {node.op} {node.modifier or ''} {sides[1]}"
        case BinaryExpr() if str(node.op) == "unless":
            return _drop_verdict(node.lhs)
        case BinaryExpr() if str(node.op) in _COMPARISONS and not (node.modifier and node.modifier.return_bool):
            return f"({node.lhs.prettify()} {node.op} bool {node.modifier or ''} {node.rhs.prettify()})"
        case Call() if node.func.name in {"absent", "absent_over_time"}:
            return (
                node.args[0].prettify() if node.func.name == "absent" else f"last_over_time({node.args[0].prettify()})"
            )
    return str(node.prettify())


def _selector(name: str, matchers: str, scraped: str) -> str:
    return f"{name}{{{matchers + ',' if matchers else ''}{scraped}}}"


def _rate(selector: str, window: str) -> str:
    return f"rate({selector}[{window}])" if window else selector
