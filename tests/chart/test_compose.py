"""compose.yaml: it is a Compose file, its containers have few rights, and its commands start a system that works."""

import asyncio
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from compose_spec import PyCompose
from pydantic_settings import BaseSettings

from gsi.local.demo import held_out_problems
from gsi.runtime.settings import find_unknown_variables
from services.coordinator.settings import CoordinatorSettings
from services.draft.settings import DraftSettings
from services.exporter.settings import ExporterSettings
from services.gateway.presets import load_presets
from services.gateway.settings import GatewaySettings
from services.prm.settings import PrmSettings
from services.target.settings import TargetSettings
from tests.chart.compose_machine import ROOT, Machine, Service, services_of, text_of

START_SECONDS = 180.0
SETTINGS: dict[str, type[BaseSettings]] = {
    "draft": DraftSettings,
    "target": TargetSettings,
    "prm": PrmSettings,
    "coordinator": CoordinatorSettings,
    "gateway": GatewaySettings,
    "exporter": ExporterSettings,
}
FILES = ("compose.yaml", "compose.gpu.yaml")
SERVICES = services_of("compose.yaml")
EVERY_SERVICE = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_compose_file(name: str) -> None:
    """By the specification, which is asked strictly: a misspelt key is refused."""
    plain = yaml.safe_dump(yaml.safe_load(text_of(name)))
    PyCompose.from_yaml(plain)
    with pytest.raises(ValueError, match="imagee"):
        PyCompose.from_yaml(plain.replace("image:", "imagee:"))


@EVERY_SERVICE
def test_a_container_has_few_rights(service: Service) -> None:
    """Not root, nothing to gain, nothing to write to but volumes and /tmp, and bounds on what it takes."""
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


@EVERY_SERVICE
def test_only_loopback_is_published(service: Service) -> None:
    """Who is on the network of this machine reaches none of them."""
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


@pytest.mark.parametrize("name", FILES)
def test_images_have_versions(name: str) -> None:
    """None is `latest`; ours have the version of the chart."""
    version = yaml.safe_load((ROOT / "helm" / "Chart.yaml").read_text())["appVersion"]
    for service in services_of(name).values():
        repository, tag = service["image"].rsplit(":", 1)
        assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\w+)?", tag)
        if "build" in service:
            variant = service["build"].get("args", {}).get("VARIANT", "vllm")
            assert repository in {"gsi-slim", "gsi-engine"}
            assert tag == (version if variant == "vllm" else f"{version}-{variant}")
            assert (ROOT / service["build"]["dockerfile"]).exists()


@EVERY_SERVICE
def test_what_is_mounted_is_there(service: Service) -> None:
    """A file that is missing would be made as a folder."""
    sources = [volume.split(":")[0] for volume in service.get("volumes", [])]
    named = yaml.safe_load(text_of("compose.yaml"))["volumes"]
    assert all((ROOT / source).exists() if source.startswith("./") else source in named for source in sources)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("process", SETTINGS)
def test_settings_are_accepted(name: str, process: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process knows each of its variables, with those that the file for GPUs lays over them."""
    laid_over: Service = services_of(name).get(process, {})
    environment = SERVICES[process]["environment"] | laid_over.get("environment", {})
    kind = SETTINGS[process]
    assert find_unknown_variables(kind, environment) == []
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    settings: dict[str, Any] = kind().model_dump()
    if name == "compose.gpu.yaml" and process in {"draft", "target", "prm"}:
        assert settings["engine"] == "vllm"


def test_engines_that_share_a_gpu_may_start_together() -> None:
    """As after a restart of the machine, which knows no order: with the sizes of the chart's profile for one GPU."""
    profile = yaml.safe_load((ROOT / "helm" / "values-single-gpu.yaml").read_text())
    for role, service in services_of("compose.gpu.yaml").items():
        arguments = service["environment"][f"GSI_{role.upper()}_ENGINE_ARGS"].split()
        assert arguments == profile[role]["engineArgs"]
        assert "--kv-cache-memory-bytes" in arguments
        assert f"hf://{service['environment'][f'GSI_{role.upper()}_MODEL']}" == profile[role]["model"]["uri"]


@pytest.mark.parametrize("role", ["draft", "target", "prm"])
def test_checkpoints_can_be_pinned_and_gated(role: str) -> None:
    """By variables of the shell, the token's among them; without, the commits of the chart's profile and no token."""
    written = yaml.safe_load((ROOT / "compose.gpu.yaml").read_text())["services"][role]["environment"]
    revision = yaml.safe_load((ROOT / "helm" / "values-single-gpu.yaml").read_text())[role]["model"]["revision"]
    assert written[f"GSI_{role.upper()}_REVISION"] == f"${{{role.upper()}_REVISION:-{revision}}}"
    assert written["HF_TOKEN"] == "${HF_TOKEN:-}"


def test_prometheus_scrapes_every_process() -> None:
    """Each has a job by its name, on the port of its metrics, with the labels that the chart's pods have."""
    scraped = yaml.safe_load((ROOT / "docker" / "prometheus.yaml").read_text())
    asked = {config["job_name"]: config["dns_sd_configs"] for config in scraped["scrape_configs"]}
    for process in SETTINGS:
        port = SERVICES[process]["environment"][f"GSI_{process.upper()}_METRICS_LISTEN"].rsplit(":", 1)[1]
        ((found,),) = (asked.pop(f"gsi-{process}"),)
        assert (found["names"], found["port"], found["type"]) == ([process], int(port), "A")
    assert not asked
    labels = {rule["target_label"] for rule in scraped["scrape_configs"][0]["relabel_configs"]}
    assert labels == {"namespace", "release", "role", "queue"}
    assert all(config["honor_labels"] for config in scraped["scrape_configs"])


async def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    """With the rules that compose.yaml mounts."""
    config = tmp_path / "prometheus.yaml"
    rules = str(ROOT / "helm" / "alerts" / "rules.yaml")
    config.write_text((ROOT / "docker" / "prometheus.yaml").read_text().replace("/etc/prometheus/rules.yaml", rules))
    promtool = await asyncio.create_subprocess_exec(ROOT / ".tools" / "bin" / "promtool", "check", "config", config)
    assert await promtool.wait() == 0


def test_the_gateways_presets_are_presets() -> None:
    """The file that is mounted is read by the gateway's own reader, and its models are of the coordinators' queue."""
    service = SERVICES["gateway"]
    mounts = dict(volume.split(":")[1::-1] for volume in service["volumes"])
    presets = load_presets(ROOT / mounts[service["environment"]["GSI_GATEWAY_PRESETS"]], "default")
    assert {preset.queue for preset in presets.values()} == {"default"}
    assert service["environment"]["GSI_GATEWAY_FILES"] in mounts


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    """The data source is the service by its name and port, and the folder is the one that is mounted."""
    (source,) = yaml.safe_load((ROOT / "docker" / "grafana" / "datasources.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{SERVICES['prometheus']['ports'][0].rsplit(':', 1)[1]}"
    (provider,) = yaml.safe_load((ROOT / "docker" / "grafana" / "dashboards.yaml").read_text())["providers"]
    assert f"./helm/dashboards:{provider['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


@pytest_asyncio.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    """Redis and every process of ours, each healthy by its own health check."""
    found = Machine(tmp_path, SERVICES)
    running = {name: await found.start(name) for name in ("redis", *SETTINGS)}
    deadline = time.monotonic() + START_SECONDS
    try:
        for name in SETTINGS:
            while not await found.is_healthy(name):
                assert running[name].returncode is None, found.log(name)
                assert time.monotonic() < deadline, found.log(name)
                await asyncio.sleep(1)
        yield found
    finally:
        for process in reversed(running.values()):
            if process.returncode is None:
                process.terminate()
        codes = [await asyncio.wait_for(process.wait(), 60) for process in running.values()]
    assert codes == [0] * len(codes)


@pytest.mark.timeout(400)  # three loads of torch
async def test_the_system_answers_a_job(machine: Machine) -> None:
    """What compose.yaml starts, started here: a job by its own command line, and /metrics where Prometheus looks."""
    problem = held_out_problems(1)[0]["prompt"]
    submitted = await machine.start("gsi", "submit", "-p", "n=4", "-p", "seed=5", problem)
    job, _ = await submitted.communicate()
    asked = await machine.start("gsi", "result", "--json", "--wait", job.decode().strip())
    result, _ = await asked.communicate()
    assert json.loads(result)["state"] == "SUCCEEDED"
    await _ask_gateway(machine, problem)
    for process in SETTINGS:
        url = f"http://{machine.addresses[process]}:9464/metrics"
        with await asyncio.to_thread(urllib.request.urlopen, url) as answer:
            assert b"\ngsi_" in answer.read()


async def _ask_gateway(machine: Machine, problem: str) -> None:
    """Ask at the published port, with a key that the command made."""
    made = await machine.start("gsi", "keys", "create", "first")
    key, _ = await made.communicate()
    url = f"http://{machine.addresses['gateway']}:8000/v1/chat/completions"
    body = json.dumps({"model": "gsi", "messages": [{"role": "user", "content": problem}]}).encode()
    headers = {"Authorization": f"Bearer {key.decode().strip()}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, body, headers)
    with await asyncio.to_thread(urllib.request.urlopen, request) as answer:
        assert json.load(answer)["choices"][0]["message"]["content"]
