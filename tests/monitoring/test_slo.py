"""The rules of the service level objectives: as ``monitoring/slo.py`` writes them, in Prometheus's own evaluation."""

import re
from pathlib import Path

import pytest

from gsi.jobs.keys import Priority
from gsi.jobs.state import JobState
from monitoring.slo import MISSED, Objectives, main, write
from services.coordinator import metrics
from tests.monitoring.test_alerts import ROOT, promtool

RULES = ROOT / "helm/alerts/slo.yaml"
CASES = Path(__file__).parent / "slo_cases.yaml"


def test_the_committed_rules_are_those_of_the_defaults() -> None:
    """Otherwise: python -m monitoring.slo helm/alerts/slo.yaml."""
    assert RULES.read_text(encoding="utf-8") == write(Objectives())


def test_promtool_accepts_the_rules() -> None:
    """Expressions, templates and durations are sound, and no rule stands there twice."""
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_a_budget_that_burns_raises_its_alert_and_nothing_else_does() -> None:
    """Over both windows, of what the service owed, with enough jobs, by lane."""
    promtool("test", "rules", CASES)


def test_the_rules_read_series_that_coordinators_have() -> None:
    """An unknown series or label value is no error to Prometheus: it never fires."""
    text = RULES.read_text(encoding="utf-8")
    declared = {each.name for each in metrics.series.declarations}
    assert {re.sub("_(bucket|count)$", "", name) for name in re.findall(r"\b(gsi_\w+)\{", text)} <= declared
    assert {*re.findall(r'lane="(\w+)"', text)} == set(Priority)
    bounds = {float(bound) for bound in re.findall(r'le="([\d.]+)"', text)}
    assert bounds == set(Objectives().seconds.values()) <= set(metrics.ANSWER_SECONDS_BUCKETS)


def test_an_end_is_counted_by_lane_and_an_answer_by_its_time() -> None:
    """What the objectives are about. Only an answer has a time to answer."""

    def count(state: JobState) -> float:
        return float(metrics.ENDED.labels(Priority.HIGH, state)._value.get())

    before = {state: count(state) for state in JobState if state.is_finished}
    observed = metrics.ANSWER_SECONDS.labels(Priority.HIGH)._sum.get()
    metrics.observe_end(Priority.HIGH, JobState.SUCCEEDED, 12.5)
    metrics.observe_end(Priority.HIGH, JobState.DEAD, 99.0)
    changed = {state: count(state) - number for state, number in before.items() if count(state) != number}
    assert changed == {JobState.SUCCEEDED: 1, JobState.DEAD: 1}
    assert metrics.ANSWER_SECONDS.labels(Priority.HIGH)._sum.get() - observed == 12.5
    assert JobState.DEAD in MISSED


def test_other_objectives_make_other_rules(tmp_path: Path) -> None:
    """Thresholds follow the budget; the lane's bound is the bucket that was named."""
    main(["--success", "0.99", "--high", "30", str(tmp_path / "slo.yaml")])
    text = (tmp_path / "slo.yaml").read_text(encoding="utf-8")
    assert "release:gsi_slo_missed:ratio1h > 0.144" in text
    assert 'lane="high", le="30.0"' in text
    promtool("check", "rules", tmp_path / "slo.yaml")


@pytest.mark.parametrize(
    ("option", "said"),
    [(("--success", "99.9"), "99.9 is not allowed"), (("--high", "45"), "invalid choice: 45.0")],
)
def test_an_objective_that_cannot_be_measured_is_refused(
    option: tuple[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A share above 1, and a time that is no bucket of the histogram."""
    with pytest.raises(SystemExit):
        main(option)
    assert said in capsys.readouterr().err
