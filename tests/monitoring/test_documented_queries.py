"""The queries of docs/metrics.md are PromQL, by the real promtool."""

import re
from pathlib import Path

import yaml

from tests.monitoring.test_alerts import promtool

ROOT = Path(__file__).parents[2]


def documented_queries() -> list[str]:
    """Return the queries in the document's code blocks: one a line, and an indented line goes on with it."""
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```promql\n(.*?)\n```", text, re.DOTALL)
    return [query for block in blocks for query in re.split(r"\n(?! )", block)]


def test_promtool_accepts_the_documented_queries(tmp_path: Path) -> None:
    """Whoever copies one gets an answer, not a syntax error."""
    queries = documented_queries()
    assert len(queries) > 20
    rules = [{"record": f"documented:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "documented", "rules": rules}]}))
    assert f"SUCCESS: {len(queries)} rules found" in promtool("check", "rules", path)
