"""What the chart tells a process is what the process can be told."""

from collections.abc import Mapping

import pytest
from pydantic_settings import BaseSettings

from gsi.runtime.settings import find_unknown_variables
from services.coordinator.settings import CoordinatorSettings
from services.draft.settings import DraftSettings
from services.exporter.settings import ExporterSettings
from services.gateway.settings import GatewaySettings
from services.prm.settings import PrmSettings
from services.target.settings import TargetSettings
from tests.chart.pods import Container, Pod, pods
from tests.chart.rendering import PROFILES, objects, objects_with
from tests.test_docs import CLIENT_VARIABLES

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "draft": DraftSettings,
    "target": TargetSettings,
    "prm": PrmSettings,
    "coordinator": CoordinatorSettings,
    "gateway": GatewaySettings,
    "exporter": ExporterSettings,
}


def environment(container: Container) -> dict[str, str]:
    """Return the variables of a container, with an address in place of what a Secret holds."""
    return {one["name"]: str(one.get("value", "rediss://redis.example:6380/0")) for one in container.get("env", [])}


def processes(profile: str) -> list[Pod]:
    found = [pod for pod in pods(objects(profile)) if pod.component in SETTINGS and pod.owner["kind"] != "Job"]
    assert {pod.component for pod in found} == set(SETTINGS)
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_a_process_takes_its_settings(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one of its settings, and its value one that it allows."""
    for pod in processes(profile):
        kind, variables = SETTINGS[pod.component], environment(pod.container())
        assert find_unknown_variables(kind, variables) == []
        with monkeypatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            settings = kind()
        assert settings.model_fields_set, pod.name


@pytest.mark.parametrize("profile", PROFILES)
def test_every_variable_of_ours_belongs_to_the_process_or_to_the_command(profile: str) -> None:
    """A misspelt prefix would be passed over in silence."""
    for pod in pods(objects(profile)):
        process = "coordinator" if pod.component == "check" else pod.component  # it calls the models as that one does
        prefix = f"GSI_{process.upper()}_"
        strangers = {
            name
            for container in pod.containers
            for name in environment(container)
            if name.startswith("GSI_") and name not in CLIENT_VARIABLES and not name.startswith(prefix)
        }
        assert strangers == set(), pod.name


def test_the_same_temperature_goes_to_draft_and_target() -> None:
    """And the same likelihood: engines that report others refuse each other."""
    given = {"sampling": {"likelihood": "model", "temperature": 0.9}}
    found = {pod.component: environment(pod.container()) for pod in pods(objects_with("cpu", given))}
    for role in ("draft", "target"):
        assert found[role][f"GSI_{role.upper()}_TEMPERATURE"] == "0.9"
        assert found[role][f"GSI_{role.upper()}_LIKELIHOOD"] == "model"


def test_a_call_that_is_in_flight_may_end_while_its_service_drains() -> None:
    """The grace period is as long as the deadline of a call: a drain cuts off nobody who still waits."""
    found = {pod.component: environment(pod.container()) for pod in pods(objects("qwen2.5-math"))}
    for role in ("draft", "target", "prm"):
        timeout = float(found["coordinator"][f"GSI_COORDINATOR_{role.upper()}_TIMEOUT_SECONDS"])
        assert float(found[role][f"GSI_{role.upper()}_GRACE_SECONDS"]) >= timeout


def test_coordinators_are_told_what_to_do_with_newer_jobs_and_with_a_queue_of_other_models() -> None:
    """Out of the box they wait for five minutes and adopt nothing; the values change both."""
    told = {
        profile: CoordinatorSettings.model_validate(coordinator_settings(profile)) for profile in ("cpu", "everything")
    }
    assert [(one.newer_job_seconds, one.adopt_queue) for one in told.values()] == [(300, False), (1800, True)]


def coordinator_settings(profile: str) -> dict[str, str]:
    """Return the coordinators' settings of a profile, by their fields."""
    (coordinator,) = (pod for pod in processes(profile) if pod.component == "coordinator")
    prefix = "GSI_COORDINATOR_"
    variables = environment(coordinator.container())
    return {name.removeprefix(prefix).lower(): one for name, one in variables.items() if name.startswith(prefix)}


def test_large_numbers_are_not_written_as_floats() -> None:
    """Helm reads 2592000 as a float and would write 2.592e+06."""
    (coordinator,) = (pod for pod in processes("cpu") if pod.component == "coordinator")
    assert environment(coordinator.container())["GSI_COORDINATOR_DEAD_TTL_SECONDS"] == "2592000"
