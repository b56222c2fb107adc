"""The alerts of a release: all those of the file, changed by the values, and sound to the real promtool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, Object, objects, objects_with, of_kind

ON = {"monitoring": {"prometheusRule": {"enabled": True}}}
FILES = [yaml.safe_load((CHART / "alerts" / name).read_text()) for name in ("rules.yaml", "slo.yaml")]
GROUPS: list[dict[str, Any]] = [group for each in FILES for group in each["groups"]]


def alerts(found: list[Object]) -> dict[str, Any]:
    (rule,) = of_kind(found, "PrometheusRule")
    return {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one}


def test_without_changes_they_are_those_of_the_files() -> None:
    """Recording rules, too, in their order."""
    (rule,) = of_kind(objects_with("cpu", ON), "PrometheusRule")
    assert rule["spec"]["groups"] == GROUPS


def test_an_alert_can_be_changed_left_out_and_labelled() -> None:
    """By its name; a label of one alert has precedence over that of all."""
    found = alerts(objects("everything"))
    written = {one["alert"]: one for group in GROUPS for one in group["rules"] if "alert" in one}
    assert set(written) - set(found) == {"GsiGpuIdle"}
    changed = found["GsiReplicaNotReady"]
    assert (changed["for"], changed["labels"]) == ("120m", {"severity": "critical", "team": "models"})
    assert changed["expr"] == written["GsiReplicaNotReady"]["expr"]
    assert found["GsiOldestJobTooOld"]["expr"].endswith("> 600")
    assert all(one["labels"]["team"] for one in found.values())


def test_links_to_the_runbook_lead_to_a_section_of_an_address() -> None:
    """A pager cannot follow a path of a repository."""
    for name, alert in alerts(objects("everything")).items():
        link = alert["annotations"]["runbook_url"]
        assert link == f"https://git.example/gsi/blob/main/docs/runbook.md#{name.lower()}"


def test_a_process_that_never_came_up_is_seen() -> None:
    """Where the chart has it scraped, absence alone is enough; an alert on what is turned off is left out."""
    found = alerts(objects("everything"))
    labels = f'namespace="{NAMESPACE}",release="{RELEASE}"'
    assert found["GsiExporterGone"]["expr"] == f"absent(gsi_queue_coordinators{{{labels}}})"
    assert found["GsiGatewayGone"]["expr"] == f"absent(gsi_gateway_open_requests{{{labels}}})"
    off = {"exporter": {"enabled": False}, "gateway": {"enabled": False}}
    assert not {"GsiExporterGone", "GsiGatewayGone"} & set(alerts(objects_with("everything", off)))


@pytest.mark.parametrize("profile", ["everything"])
def test_promtool_accepts_what_is_rendered(profile: str, tmp_path: Path) -> None:
    """The spec of a PrometheusRule is a rule file."""
    (rule,) = of_kind(objects(profile), "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    checked = subprocess.run(
        [ROOT / ".tools" / "bin" / "promtool", "check", "rules", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
