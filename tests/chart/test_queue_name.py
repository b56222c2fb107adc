"""A release has a queue of its own, by its name; a release that has another one keeps it, and its jobs with it."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from gsi.cli.main import app
from tests.chart.api_server import cluster, upgraded, write_kubeconfig
from tests.chart.pods import pod_of, pods
from tests.chart.rendering import (
    CHART,
    HELMS,
    NAMESPACE,
    PROFILES,
    RELEASE,
    Object,
    helm,
    objects,
    objects_with,
    of_kind,
    parsed,
    template,
)

RELEASED: Object = yaml.safe_load((Path(__file__).parent / "released_coordinator.yaml").read_text())
SCALED: dict[str, Any] = {
    "draft": {"autoscaling": {"enabled": True}},
    "coordinator": {"autoscaling": {"enabled": True}},
    "gateway": {"presets": "[models.a]\nparams = {}\n"},
}


def queues_named(found: list[Object]) -> dict[str, set[str]]:
    """Return every queue that the objects name, by where: variables, labels, scalers' streams and queries."""
    containers = [container for pod in pods(found) for container in pod.containers]
    scalers = [trigger["metadata"] for one in of_kind(found, "ScaledObject") for trigger in one["spec"]["triggers"]]
    return {
        "variables": {
            one["value"]
            for each in containers
            for one in each.get("env", [])
            if one["name"].endswith("_QUEUE")
            if "ADOPT" not in one["name"]
        },
        "labels": {pod.labels["gsi/queue"] for pod in pods(found) if "gsi/queue" in pod.labels},
        "streams": {re.findall(r"\{(.*)\}", each["stream"])[0] for each in scalers if "stream" in each},
        "queries": set(re.findall('queue="(.*?)"', " ".join(each.get("query", "") for each in scalers))),
    }


EVERYWHERE = ("variables", "labels", "streams", "queries")


def test_a_new_release_has_a_queue_of_its_name() -> None:
    """In every place that names a queue; six processes and pods are told it."""
    found = objects_with("cpu", SCALED)
    assert queues_named(found) == {where: {RELEASE} for where in EVERYWHERE}
    told = {
        pod.component
        for pod in pods(found)
        for container in pod.containers
        if any(one["name"].endswith("_QUEUE") and "ADOPT" not in one["name"] for one in container.get("env", []))
    }
    assert told == {"coordinator", "gateway", "exporter", "queue", "test"}


def test_a_value_gives_it_another_one() -> None:
    """In the same places."""
    found = objects_with("cpu", SCALED | {"coordinator": SCALED["coordinator"] | {"queue": "sums.2-b"}})
    assert queues_named(found) == {where: {"sums.2-b"} for where in EVERYWHERE}


@pytest.mark.parametrize("version", HELMS)
def test_an_upgrade_from_the_released_chart_keeps_its_queue(version: str, tmp_path: Path) -> None:
    """Its coordinators took `default`, and jobs wait there. Everything goes on with it."""
    found = parsed(upgraded([RELEASED], "cpu", SCALED, tmp_path, version))
    assert queues_named(found) == {where: {"default"} for where in EVERYWHERE}


def test_the_next_upgrade_keeps_it_too(tmp_path: Path) -> None:
    """What the upgrade sent says the queue to the one after it."""
    found = parsed(upgraded([RELEASED], "cpu", {}, tmp_path))
    again = parsed(upgraded(found, "cpu", SCALED, tmp_path))
    assert queues_named(again) == {where: {"default"} for where in EVERYWHERE}


def test_an_upgrade_of_a_release_of_this_chart_keeps_its_queue(tmp_path: Path) -> None:
    """Its name. A value given to an upgrade moves the release."""
    running = objects("cpu")
    assert queues_named(parsed(upgraded(running, "cpu", {}, tmp_path)))["labels"] == {RELEASE}
    moved = upgraded([RELEASED], "cpu", {"coordinator": {"queue": "gsi"}}, tmp_path)
    assert queues_named(parsed(moved))["labels"] == {"gsi"}


def test_without_a_cluster_the_value_keeps_the_queue() -> None:
    """As `helm template` and Argo CD render: nothing there says that the release was installed before."""
    kept = objects_with("cpu", SCALED | {"coordinator": SCALED["coordinator"] | {"queue": "default"}})
    assert queues_named(kept) == {where: {"default"} for where in EVERYWHERE}


EXTERNAL = {"redis": {"builtIn": {"enabled": False}, "external": {"url": "redis://redis.example:6379/0"}}}


def test_a_renamed_release_is_refused_unless_it_says_its_queue(tmp_path: Path) -> None:
    """Under the new name no coordinator is found that has a queue. On an external Redis the jobs are still there."""
    renamed = EXTERNAL | {"nameOverride": "speculation"}
    refused = upgraded([RELEASED], "cpu", renamed, tmp_path)
    assert "gsi-coordinator, whose queue has the jobs" in refused
    assert "coordinator.queue: default" in refused
    found = parsed(upgraded([RELEASED], "cpu", renamed | {"coordinator": {"queue": "default"}}, tmp_path))
    assert queues_named(found)["labels"] == {"default"}


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("name", ["a{b", "-a", "a_", "a" * 64, "two words"])
def test_a_name_that_no_queue_has_is_refused(name: str, version: str) -> None:
    """A sentence with the name, and with what is allowed: it is a label of pods as well."""
    refused = template("cpu", {"coordinator": {"queue": name}}, version)
    assert f'coordinator.queue: "{name}" is no name of a queue; allowed: up to 63 letters' in refused.stderr


def test_the_name_under_which_gateways_keep_keys_is_refused() -> None:
    """A coordinator's Redis user has all rights on its queue's keys. A release of that name needs another queue."""
    for arguments in (("gsi", "--set", "coordinator.queue=gsi-gateway"), ("gsi-gateway",)):
        refused = helm("4.3", "template", arguments[0], CHART, *arguments[1:])
        assert "gsi-gateway is where gateways keep API keys" in refused.stderr
    assert helm("4.3", "template", "gsi-gateway", CHART, "--set", "coordinator.queue=a").returncode == 0


def test_every_name_of_a_release_is_the_name_of_a_queue() -> None:
    """Helm allows dots and 53 letters."""
    for release in ("a.b-c", "a" * 53):
        found = objects("cpu", release=release)
        assert queues_named(found)["labels"] == {release}


def notes(folder: Path, running: list[Object], *more: str) -> str:
    """Return what Helm prints in a cluster in which these objects run."""
    with cluster(running) as url:
        write_kubeconfig(folder / "config", url)
        command = ("install", RELEASE, CHART, "--namespace", NAMESPACE, "--values", PROFILES["cpu"], "--take-ownership")
        asking = ("--dry-run=server", "--disable-openapi-validation", "--kubeconfig", folder / "config")
        done = helm("4.3", *command, *asking, *more)
    assert done.returncode == 0, done.stderr
    return done.stdout.partition("\nNOTES:\n")[2]


def test_the_notes_say_which_queue_it_is(tmp_path: Path) -> None:
    """And where a queue was kept, what says it without a cluster."""
    new = notes(tmp_path, [])
    assert f"release {RELEASE}, queue {RELEASE}\n" in new
    assert "The queue stays" not in new
    kept = notes(tmp_path, [RELEASED])
    assert f"release {RELEASE}, queue default\n" in kept
    assert "The queue stays default" in kept
    assert "set coordinator.queue: default" in kept


async def test_two_releases_on_one_redis_see_their_own_jobs_alone(redis_url: str) -> None:
    """The hook of each makes its queue; a job that one's coordinator's pod submits is in that one's queue."""
    redis = {"builtIn": {"enabled": False}, "external": {"url": redis_url}}
    values: dict[str, Any] = {"redis": redis, "networkPolicy": {"enabled": False}}
    first, second = (release_on(values, release) for release in ("algebra", "geometry"))
    for release in (first, second):
        await command(release, "queue", "create")
    await command(first, "submit", "2 + 3")
    waiting = [json.loads(await command(release, "queue", "stats", "--json"))["lag"] for release in (first, second)]
    assert waiting == [1, 0]


def release_on(values: dict[str, Any], release: str) -> dict[str, str]:
    """Return the command's variables in a coordinator's pod of a release."""
    arguments = ("template", release, CHART, "--namespace", NAMESPACE, "--values", PROFILES["cpu"], "--values", "-")
    done = helm("4.3", *arguments, stdin=json.dumps(values))
    assert done.returncode == 0, done.stderr
    environment = pod_of(parsed(done.stdout), "coordinator").container()["env"]
    return {one["name"]: one["value"] for one in environment if one["name"].startswith(("GSI_QUEUE", "GSI_REDIS"))}


async def command(environment: dict[str, str], *arguments: str) -> str:
    """Run a command of ``gsi`` as `kubectl exec` in that pod would; return what it prints."""
    done = await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments, env=environment))
    assert done.exit_code == 0, done.output
    return done.stdout
