"""What pods run: the slim image has no shell, so nothing that it is to run may need one."""

import pytest

from tests.chart.pods import pods
from tests.chart.rendering import PROFILES, objects

SHELLS = {"sh", "/bin/sh", "bash", "/bin/bash"}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_the_slim_image_runs_needs_no_shell(profile: str) -> None:
    """Coordinator, hook and ``helm test``."""
    found = [
        (pod.name, container["command"])
        for pod in pods(objects(profile))
        for container in pod.containers
        if "gsi-slim" in container["image"]
    ]
    assert {command[0] for _, command in found} == {"gsi"}
    assert not [name for name, command in found if SHELLS & set(command)]
