"""Render the chart with the real Helm: once for each version of it and set of values."""

import json
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
OWN_VALUES = Path(__file__).parent
HELMS = {version: ROOT / ".tools" / "bin" / f"helm-{version}" for version in ("3.17", "4.3")}
RELEASE, NAMESPACE = "gsi", "inference"

# What people start from, and values files of our own that turn on what those leave off.
PROFILES = {
    "defaults": CHART / "values.yaml",
    "cpu": CHART / "values-cpu.yaml",
    "single-gpu": CHART / "values-single-gpu.yaml",
    "qwen2.5-math": CHART / "values-qwen2.5-math.yaml",
    "llama-skywork": CHART / "values-llama-skywork.yaml",
    "qwen3": CHART / "values-qwen3.yaml",
    "72b": CHART / "values-72b.yaml",
    "everything": OWN_VALUES / "values-everything.yaml",
    "everything-else": OWN_VALUES / "values-everything-else.yaml",
}

Object = dict[str, Any]


def helm(version: str, *arguments: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run Helm with nothing of the user's: no cluster, no repositories, no plugins."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "KUBECONFIG": "/nonexistent"}
    command = [HELMS[version], *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=environment)


@cache
def manifest(version: str, values: Path, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Return what Helm would send to the cluster, hooks and test pods included."""
    done = helm(version, "template", release, CHART, "--namespace", namespace, "--values", values)
    assert done.returncode == 0, f"helm {version} template --values {values.name}: {done.stderr}"
    return done.stdout


def objects(profile: str, version: str = "4.3", release: str = RELEASE, namespace: str = NAMESPACE) -> list[Object]:
    """Return the objects of a profile; they are the caller's, to change as it likes."""
    return parsed(manifest(version, PROFILES[profile], release, namespace))


def objects_with(profile: str, values: Mapping[str, Any], version: str = "4.3") -> list[Object]:
    """Return the objects of a profile with some values changed."""
    done = template(profile, values, version)
    assert done.returncode == 0, done.stderr
    return parsed(done.stdout)


def template(profile: str, values: Mapping[str, Any], version: str) -> "subprocess.CompletedProcess[str]":
    """Render a profile with some values changed, which Helm may refuse."""
    arguments = ("template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", PROFILES[profile], "--values", "-")
    return helm(version, *arguments, stdin=json.dumps(values))


def parsed(text: str) -> list[Object]:
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def name_of(found: Object) -> str:
    """Return how a person names an object: ``Deployment/gsi-draft``."""
    return f"{found['kind']}/{found['metadata']['name']}"


def of_kind(found: list[Object], *kinds: str) -> list[Object]:
    return [one for one in found if one["kind"] in kinds]


def component(found: Object) -> str:
    """Return the part of the system that an object belongs to, such as ``draft``; empty for none."""
    labels: Mapping[str, str] = found["metadata"].get("labels", {})
    return labels.get("app.kubernetes.io/component", "")
