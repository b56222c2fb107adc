"""The alerts of a release: all those of the file, changed by the values, and sound to the real promtool."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, NAMESPACE, RELEASE, ROOT, Object, objects, objects_with, of_kind

ON = {"monitoring": {"prometheusRule": {"enabled": True}}}
PROMTOOL = ROOT / ".tools" / "bin" / "promtool"
FILES = [yaml.safe_load((CHART / "alerts" / name).read_text()) for name in ("rules.yaml", "slo.yaml")]
GROUPS: list[dict[str, Any]] = [group for each in FILES for group in each["groups"]]


def alerts(found: list[Object]) -> dict[str, Any]:
    (rule,) = of_kind(found, "PrometheusRule")
    return {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one}


def written(name: str) -> dict[str, Any]:
    """Return an alert of the files."""
    rules: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
    (found,) = (rule for rule in rules if rule.get("alert") == name)
    return found


def test_without_changes_they_are_those_of_the_files() -> None:
    """Recording rules, too, in their order."""
    (rule,) = of_kind(objects_with("cpu", ON | {"redis": {"backup": {"enabled": True}}}), "PrometheusRule")
    for group in rule["spec"]["groups"]:
        for each in group["rules"]:
            if each.get("alert") == "GsiBackupTooOld":  # the chart knows which CronJob there is to be
                each["expr"] = written("GsiBackupTooOld")["expr"]
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


def test_a_backup_that_never_was_is_seen(tmp_path: Path) -> None:
    """It fires without any success, and is quiet after one; without a CronJob there is no alert."""
    (rule,) = of_kind(objects("everything"), "PrometheusRule")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    cron_job = f'namespace="{NAMESPACE}", cronjob="gsi-speculation-redis-backup"'
    fires = {"alertname": "GsiBackupTooOld", "eval_time": "1h"}
    labels = {
        "severity": "warning",
        "team": "reasoning",
        "namespace": NAMESPACE,
        "cronjob": "gsi-speculation-redis-backup",
    }
    annotations = alerts(objects("everything"))["GsiBackupTooOld"]["annotations"] | {
        "summary": "No snapshot of Redis by gsi-speculation-redis-backup for 36 hours"
    }
    for label in ("namespace", "cronjob"):
        told = annotations["description"].replace(f"{{{{ $labels.{label} }}}}", labels[label])
        annotations["description"] = told
    series = {"series": f"kube_cronjob_status_last_successful_time{{{cron_job}}}", "values": "60x90"}
    tests = [
        {
            "interval": "1m",
            "alert_rule_test": [fires | {"exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}]}],
        },
        {"interval": "1m", "input_series": [series], "alert_rule_test": [fires | {"exp_alerts": []}]},
    ]
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": tests}))
    tested = subprocess.run(
        [PROMTOOL, "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True, check=False
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "GsiBackupTooOld" not in alerts(objects_with("cpu", ON))


@pytest.mark.parametrize("profile", ["everything"])
def test_promtool_accepts_what_is_rendered(profile: str, tmp_path: Path) -> None:
    """The spec of a PrometheusRule is a rule file."""
    (rule,) = of_kind(objects(profile), "PrometheusRule")
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rule["spec"]))
    checked = subprocess.run([PROMTOOL, "check", "rules", path], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
