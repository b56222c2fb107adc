"""A model's scaler fires: its queries, asked of recorded series by the real promtool, give the pods that are needed.

An AverageValue of KEDA asks for ceil(value / threshold) pods, and the HorizontalPodAutoscaler takes the largest number
that any trigger asks for.
"""

import math
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import NAMESPACE, RELEASE, ROOT, Object, component, objects, objects_with, of_kind

VLLM = {"draft": {"engine": "vllm", "gpu": {"count": 1}, "autoscaling": {"enabled": True, "maxReplicas": 8}}}
OF = f'namespace="{NAMESPACE}",release="{RELEASE}"'
QUEUE = f'{OF},queue="{RELEASE}"'
BUSY = {  # four coordinators of 16 jobs and a full queue; two engines that are full, and have more to do
    f'gsi_stream_lag{{{QUEUE},role="coordinator",pod="a"}}': 40,
    f'gsi_stream_lag{{{QUEUE},role="exporter",pod="e"}}': 40,
    f'gsi_stream_pending{{{QUEUE},role="coordinator",pod="a"}}': 64,
    f'gsi_stream_pending{{{QUEUE},role="exporter",pod="e"}}': 64,
    f'vllm:num_requests_waiting{{{OF},role="draft",pod="1"}}': 11,
    f'vllm:num_requests_waiting{{{OF},role="draft",pod="2"}}': 9,
    f'vllm:kv_cache_usage_perc{{{OF},role="draft",pod="1"}}': 0.98,
    f'vllm:kv_cache_usage_perc{{{OF},role="draft",pod="2"}}': 0.95,
    f'vllm:num_requests_waiting{{{OF},role="target",pod="3"}}': 400,
    f'gsi_rpcs_in_flight{{{OF},role="draft",pod="1"}}': 32,
    f'gsi_rpcs_in_flight{{{OF},role="draft",pod="2"}}': 32,
}
IDLE = dict.fromkeys(BUSY, 0)


def scaler(found: list[Object], role: str = "draft") -> Object:
    (one,) = (one for one in of_kind(found, "ScaledObject") if component(one) == role)
    return one


def value(query: str, series: Mapping[str, float], folder: Path) -> float | None:
    """Return what Prometheus answers; None if that is nothing."""
    (folder / "rules.yaml").write_text("groups: []")
    case = {"expr": query, "eval_time": "1m", "exp_samples": []}
    inputs = [{"series": name, "values": f"{number}x5"} for name, number in series.items()]
    test = {"interval": "1m", "input_series": inputs, "promql_expr_test": [case]}
    (folder / "test.yaml").write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "tests": [test]}))
    command: list[str | Path] = [ROOT / ".tools" / "bin" / "promtool", "test", "rules", folder / "test.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:  # nothing was expected
        return None
    got = re.findall(r"\{\} ([\d.E+-]+)", done.stdout + done.stderr)
    assert len(got) == 1, done.stdout + done.stderr
    return float(got[0])


def wanted(found: Object, series: Mapping[str, float], folder: Path) -> list[int]:
    """Return the pods that each trigger asks for."""
    triggers: list[Mapping[str, Any]] = [one["metadata"] for one in found["spec"]["triggers"]]
    return [math.ceil((value(one["query"], series, folder) or 0) / float(one["threshold"])) for one in triggers]


def test_a_busy_engine_gets_more_pods_by_each_sign(tmp_path: Path) -> None:
    """By 104 jobs at 32 a pod, by 20 requests that wait at 8 a pod, and by two full caches at 80 %."""
    assert wanted(scaler(objects_with("cpu", VLLM)), BUSY, tmp_path) == [4, 3, 3]
    assert wanted(scaler(objects_with("cpu", VLLM)), IDLE, tmp_path) == [0, 0, 0]


def test_another_engine_scales_on_jobs_and_calls(tmp_path: Path) -> None:
    """64 calls are all that four coordinators make: they are four pods' worth, and not one's."""
    found = objects_with("cpu", {"draft": {"autoscaling": {"enabled": True, "maxReplicas": 8}}})
    assert wanted(scaler(found), BUSY, tmp_path) == [4, 4]


def test_a_job_wakes_a_model_from_zero_and_a_running_one_keeps_it(tmp_path: Path) -> None:
    """Without a pod engines have no series; the exporter knows the queue. The last pod stays longer than a start."""
    from_zero = {"autoscaling": {"enabled": True, "minReplicas": 0}}
    found = scaler(objects_with("cpu", {"draft": VLLM["draft"] | from_zero}))
    assert found["spec"]["minReplicaCount"] == 0
    assert found["spec"]["cooldownPeriod"] >= 1800
    for lag, pending in ((1, 0), (0, 1)):
        seen = {
            f'gsi_stream_lag{{{QUEUE},role="exporter"}}': lag,
            f'gsi_stream_pending{{{QUEUE},role="exporter"}}': pending,
        }
        assert wanted(found, seen, tmp_path)[0] == 1
    assert [one["metadata"]["ignoreNullValues"] for one in found["spec"]["triggers"]] == ["false", "true", "true"]


def test_without_prometheus_no_pod_is_removed() -> None:
    """A fallback would set a number; a trigger that fails makes the autoscaler keep what runs. Nothing is no zero."""
    for profile in ("everything", "everything-else"):
        for one in of_kind(objects(profile), "ScaledObject"):
            if component(one) in {"draft", "target", "prm"}:
                assert "fallback" not in one["spec"]
                assert {trigger["metadata"]["ignoreNullValues"] for trigger in one["spec"]["triggers"]} == {"false"}


def test_an_empty_answer_is_no_zero(tmp_path: Path) -> None:
    """A Prometheus that has lost its targets answers nothing, which KEDA is told to take for a failure."""
    for trigger in scaler(objects_with("cpu", VLLM))["spec"]["triggers"]:
        assert value(trigger["metadata"]["query"], {}, tmp_path) is None


def test_the_values_are_the_triggers_targets() -> None:
    """In the order of jobs, waiting requests and the cache; hpa has calls in flight."""
    found = objects("everything")
    thresholds = [one["metadata"]["threshold"] for one in scaler(found)["spec"]["triggers"]]
    assert thresholds == ["24", "4", "0.7"]
    (hpa,) = (one for one in of_kind(found, "HorizontalPodAutoscaler") if component(one) == "prm")
    (metric,) = hpa["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "gsi_rpcs_in_flight"
    assert metric["pods"]["target"]["averageValue"] == "16"


@pytest.mark.parametrize("series", ["vllm:num_requests_waiting", "vllm:kv_cache_usage_perc", "gsi_rpcs_in_flight"])
def test_the_series_are_documented(series: str) -> None:
    """By the names of docs/metrics.md."""
    assert f"`{series}`" in (ROOT / "docs" / "metrics.md").read_text()
