"""The chart's profiles have the models, arguments and shares of the profiles of ``gsi up``."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gsi.local.placement import OVERHEAD_BYTES, ROLES, compute_shares, size_of
from gsi.local.profile import NAMES, Profile, load_profile
from gsi.planning.architecture import Role, find_architecture
from gsi.planning.full_batch import USABLE_MEMORY

CHART = Path(__file__).parents[2] / "helm"
MEMORY = 80e9  # of the one GPU that values-single-gpu.yaml is for


UNPINNED = load_profile("llama-skywork").models["prm"].name
NOT_PINNED = {("llama-skywork", "prm")}  # its file says so, and the chart's NOTES.txt warns
COMMIT = re.compile(r"[0-9a-f]{40}")


def read(name: str) -> Any:
    return yaml.safe_load((CHART / f"values-{name}.yaml").read_text())


def model_of(profile: Profile, role: Role) -> dict[str, str]:
    """Return a model of a profile as the chart writes it."""
    model = profile.models[role]
    return {"uri": f"hf://{model.name}"} | ({"revision": model.revision} if model.revision else {})


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_names_commits(name: str) -> None:
    """A branch moves: two downloads of it may be two models."""
    revisions = {role: model.revision or "" for role, model in load_profile(name).models.items()}
    assert {(name, role) for role, revision in revisions.items() if not COMMIT.fullmatch(revision)} <= NOT_PINNED


def test_a_checkpoint_has_one_commit_everywhere() -> None:
    """Profiles of the chart that `gsi up` does not have included."""
    found: dict[str, set[str]] = {}
    for path in CHART.glob("values-*.yaml"):
        values = yaml.safe_load(path.read_text())
        for model in (values.get(role, {}).get("model", {}) for role in ROLES):
            if str(model.get("uri", "")).startswith("hf://"):
                found.setdefault(model["uri"], set()).add(model.get("revision", ""))
    assert len(found) >= 8
    assert {uri for uri, revisions in found.items() if len(revisions) != 1} == set()
    assert [uri for uri, (revision,) in found.items() if not revision] == [f"hf://{UNPINNED}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_is_the_same_on_kubernetes(name: str) -> None:
    """Each model has a GPU of its own there, and no more of its memory than a place of its own gets here."""
    profile, values = load_profile(name), read(name)
    assert {key: str(value) for key, value in values["sampling"].items()} == profile.sampling
    for role in ROLES:
        own = values[role]
        assert own["model"] == model_of(profile, role)
        assert (own["engine"], own["dtype"], own["gpu"]["count"]) == ("vllm", "bfloat16", 1)
        assert own["engineArgs"] == [
            "--gpu-memory-utilization",
            str(USABLE_MEMORY),
            *profile.models[role].engine_args,
        ]


def test_one_gpu_is_shared_on_kubernetes_as_here() -> None:
    """By the computed shares; and each cache, whose size is given there, fits into its share."""
    profile, values = load_profile("qwen2.5-math"), read("single-gpu")
    sizes = {role: size_of(find_architecture(role, profile.models[role].name)) for role in ROLES}
    shares = compute_shares(sizes, MEMORY, "the GPU")
    for role in ROLES:
        words = list(values[role]["engineArgs"])
        given = words.index("--kv-cache-memory-bytes")
        cache = float(words[given + 1].removesuffix("G")) * 1e9
        del words[given : given + 2]
        model = profile.models[role]
        shared = [*model.engine_args, *model.engine_args_on_a_shared_gpu]
        assert words == ["--gpu-memory-utilization", f"{shares[role]:.2f}", *shared]
        assert values[role]["model"] == model_of(profile, role)
        assert cache + sizes[role].weights + OVERHEAD_BYTES <= shares[role] * MEMORY
