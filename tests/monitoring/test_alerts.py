"""The alerts of ``helm/alerts/rules.yaml``: sound, tested both ways, and each with a section that says what to do.

``make chart`` runs them, since they need a promtool.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm/alerts/rules.yaml"
TESTS = sorted(Path(__file__).parent.glob("*_test.yaml"))
SCRAPED = ("namespace", "release", "queue")  # labels that the chart lets scraping add
SERIES = re.compile(r"\b(?:gsi_\w+|vllm:\w+)\b")
RECORDED = re.compile(r"\brelease:[\w:]+")
PARTS_OF_A_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


def promtool(*arguments: str | Path) -> str:
    """Run promtool; return what it says. Fails the test that calls it if promtool finds fault."""
    command = [ROOT / ".tools/bin/promtool", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def content_of(path: Path) -> dict[str, Any]:
    """Return a YAML file's content with every scalar as it is written: to YAML the values `0x70` are a number."""
    content: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    return content


def rules() -> list[dict[str, Any]]:
    return [rule for group in content_of(RULES)["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def without_scraping(value: Any) -> Any:
    """Return a test file's content as it is where nothing adds labels to what is scraped."""
    if isinstance(value, dict):
        return {key: without_scraping(part) for key, part in value.items() if key not in SCRAPED}
    if isinstance(value, list):
        return [without_scraping(part) for part in value]
    if not isinstance(value, str):
        return value
    value = re.sub(r'\b(namespace|release|queue)="(?!")[^"]*",? ?', "", value)
    return re.sub(r'\b(namespace|release|queue) "[^"]*"', r'\1 ""', value).replace(" in release gsi", "")


def test_promtool_accepts_the_rules() -> None:
    """Expressions, templates and durations are sound, and no rule stands there twice."""
    assert f"SUCCESS: {len(rules())} rules found" in promtool("check", "rules", RULES)


@pytest.mark.parametrize("tests", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should_and_only_then(tests: Path) -> None:
    """The unit tests hold in Prometheus's own evaluation."""
    promtool("test", "rules", tests)


def test_alerts_need_no_label_of_scraping(tmp_path: Path) -> None:
    """Fires and stays away alike without namespace, release and queue. One queue a test: nothing tells two apart."""
    for path in TESTS:
        content = content_of(path)
        content["rule_files"] = [str(RULES)]
        content["tests"] = [without_scraping(test) for test in content["tests"] if num_queues(test) == 1]
        assert len(content["tests"]) >= 4
        changed = tmp_path / path.name
        changed.write_text(yaml.safe_dump(content, width=10_000), encoding="utf-8")
        assert not re.search(r'\brelease(=|: |:$| "[^"])', changed.read_text(encoding="utf-8"), re.MULTILINE)
        promtool("test", "rules", changed)


def num_queues(test: dict[str, Any]) -> int:
    """Return how many releases or queues a test tells apart by labels of scraping."""
    series = [entry["series"] for entry in test["input_series"]]
    return max(len({name for one in series for name in re.findall(rf'{label}="(\w+)"', one)}) for label in SCRAPED)


def test_every_alert_is_tested_both_ways() -> None:
    """Each has a case in which it fires and one in which it does not."""
    outcomes: dict[str, set[bool]] = defaultdict(set)
    for path in TESTS:
        for test in content_of(path)["tests"]:
            for case in test["alert_rule_test"]:
                outcomes[case["alertname"]].add(bool(case["exp_alerts"]))
    assert dict(outcomes) == {alert["alert"]: {True, False} for alert in alerts()}


def test_every_series_is_documented() -> None:
    """An expression names series of docs/metrics.md, and recorded ones that the file records."""
    documented = set(re.findall(r"`((?:gsi_|vllm:)\w+)`", (ROOT / "docs/metrics.md").read_text(encoding="utf-8")))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named, used = set(), set()
    for rule in rules():
        named |= {PARTS_OF_A_HISTOGRAM.sub("", name) for name in SERIES.findall(RECORDED.sub("", rule["expr"]))}
        used |= set(RECORDED.findall(rule["expr"]))
    assert named
    assert named - documented == set()
    assert used == recorded


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    """Each waits before it fires, and names a section of docs/runbook.md of its own."""
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
    sections = dict(sections_of(text.partition("\n## When an alert fires\n")[2].partition("\n## ")[0]))
    for alert in alerts():
        assert re.fullmatch(r"\d+m", alert["for"])
        assert alert["labels"] == {"severity": alert["labels"]["severity"]}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["annotations"]["runbook_url"] == f"docs/runbook.md#{alert['alert'].lower()}"
        assert len(sections.pop(alert["alert"]).split()) > 30
    assert sections == {}, "sections of alerts that do not exist"


def sections_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield heading and text of the sections of level 3."""
    for part in text.split("\n### ")[1:]:
        heading, _, body = part.partition("\n")
        yield heading, body
