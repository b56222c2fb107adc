"""PromQL: how our queries are written, how Grafana fills in its variables, and what of a query must have an answer.

Labels that scraping adds may be missing: every matcher on them is ``=~`` a variable whose "All" is ``.*``, which also
matches a label that is not there. The variable ``model`` is not a label of most series; it leaves out the processes
that are known to run other models, so that a process that has not told yet is shown.
"""

from collections.abc import Iterator, Mapping

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
    """Return a coordinator's series, or with a window (``RATE``, ``RANGE``) its growth a second, of chosen models."""
    return f"{_grown(_selected(name, matchers, _COORDINATOR), window)} unless on (instance) {_OTHER_MODELS}"


def services(name: str, matchers: str = "", window: str = "") -> str:
    """Return a model service's series, or its growth a second."""
    return f"{_grown(_selected(name, matchers, _SERVICE), window)} unless on (instance) {_ANOTHER_MODEL}"


def engines(name: str, window: str = "") -> str:
    """Return a series of vLLM's own, or its growth a second."""
    return _grown(_selected(name, 'model_name=~"$model"', _SERVICE), window)


def gpus(name: str) -> str:
    """Return a GPU's series: once for each GPU, although each process on its machine reports it."""
    return f"max by (uuid) ({_selected(name, '', _SERVICE)})"


def ratio(part: str, whole: str, matching: str = "") -> str:
    """Return a quotient that is not there, rather than NaN, where the denominator is 0."""
    return f"{part} / {matching + ' ' if matching else ''}({whole} > 0)"


def quantile(share: float, buckets: str, by: str = "le") -> str:
    return f"histogram_quantile({share:g}, sum by ({by}) ({buckets}))"


def filled_in(expr: str, chosen: Mapping[str, str], rate_interval: str, time_range: str) -> str:
    """Return a query with Grafana's variables replaced as Grafana does; one that is not chosen is "All"."""
    values = {"__rate_interval": rate_interval, "__range": time_range, **dict.fromkeys(VARIABLES, ALL), **chosen}
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(f"${name}", values[name])
    return expr


def names_in(expr: str) -> set[str]:
    """Return the metrics that an expression without variables names."""
    return {node.name for node in _walk(promql_parser.parse(expr)) if isinstance(node, VectorSelector) and node.name}


def parts_with_an_answer(expr: str) -> list[str]:
    """Return what must have an answer for an expression to be of any use, whatever the values are just now.

    ``a or b``: both, each by itself. ``a unless b``: a. ``a > 0``: a, so the comparison becomes ``> bool``, which
    answers 0 or 1 where both sides have series that match; with ``and`` this holds for both sides together.
    ``absent(a)``: a.
    Comparisons inside of arithmetic or functions stay as they are: there they are part of the value.
    """
    return _parts(promql_parser.parse(expr))


def _parts(node: Expr) -> list[str]:
    match node:
        case ParenExpr():
            return _parts(node.expr)
        case BinaryExpr() if str(node.op) == "or":
            return _parts(node.lhs) + _parts(node.rhs)
        case BinaryExpr() if str(node.op) == "unless":
            return _parts(node.lhs)
    return [_without_verdict(node)]


def _without_verdict(node: Expr) -> str:
    match node:
        case ParenExpr():
            return f"({_without_verdict(node.expr)})"
        case BinaryExpr() if str(node.op) in {"and", "or"}:
            sides = _without_verdict(node.lhs), _without_verdict(node.rhs)
            return f"{sides[0]} {node.op} {node.modifier or ''} {sides[1]}"
        case BinaryExpr() if str(node.op) == "unless":
            return _without_verdict(node.lhs)
        case BinaryExpr() if str(node.op) in _COMPARISONS and not (node.modifier and node.modifier.return_bool):
            return f"({node.lhs.prettify()} {node.op} bool {node.modifier or ''} {node.rhs.prettify()})"
        case Call() if node.func.name in {"absent", "absent_over_time"}:
            return (
                node.args[0].prettify() if node.func.name == "absent" else f"last_over_time({node.args[0].prettify()})"
            )
    return str(node.prettify())


def _walk(node: Expr) -> Iterator[Expr]:
    """Yield an expression and all that it is made of."""
    found: list[Expr] = []
    promql_parser.walk(node, pre_visit=found.append)
    yield from found


def _selected(name: str, matchers: str, scraped: str) -> str:
    return f"{name}{{{matchers + ',' if matchers else ''}{scraped}}}"


def _grown(selector: str, window: str) -> str:
    return f"rate({selector}[{window}])" if window else selector
