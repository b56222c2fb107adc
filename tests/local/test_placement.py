"""``gsi up --gpus`` and ``--profile``: which GPU each model gets, with which memory and which arguments."""

import shlex
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.local.arrangement import Arrangement, arrange_services
from gsi.local.installed_gpus import InstalledGpu, list_gpus
from gsi.local.placement import OVERHEAD_BYTES, ROLES, compute_shares, order_of_starts, parse_places, size_of
from gsi.local.profile import NAMES, load_profile
from gsi.planning.architecture import find_architecture

H100 = 85_520_809_984  # bytes of "NVIDIA H100 80GB HBM3", as NVML gives them
T4 = 16_106_127_360
PAPER = load_profile("qwen2.5-math")
NO_MODELS: dict[str, str] = dict.fromkeys(ROLES, "somebody/a-model")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a stand-in for NVML on this machine: four H100, of which the last is in use, and an old T4."""
    sizes, in_use = [H100] * 4 + [T4], {3: 20 * 10**9}
    answers: dict[str, Callable[..., Any]] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(sizes),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUUID": lambda gpu: f"GPU-{gpu}{gpu}",
        "nvmlDeviceGetName": lambda gpu: "Tesla T4" if gpu == 4 else "NVIDIA H100 80GB HBM3",
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(
            total=sizes[gpu], free=sizes[gpu] - in_use.get(gpu, 10**9)
        ),
        "nvmlDeviceGetCudaComputeCapability": lambda gpu: (7, 5) if gpu == 4 else (9, 0),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


def arguments(arranged: Arrangement, role: str) -> list[str]:
    return shlex.split(arranged.environments[role][f"GSI_{role.upper()}_ENGINE_ARGS"])


def share(arranged: Arrangement, role: str) -> float:
    words = arguments(arranged, role)
    return float(words[words.index("--gpu-memory-utilization") + 1])


def test_each_model_has_a_gpu_of_its_own_on_vllm_in_bfloat16() -> None:
    """The numbers are NVML's, so CUDA is told to count as NVML does; no engine has to wait for another."""
    arranged = arrange_services("0,1,2", PAPER, None, NO_MODELS, {})
    for number, role in enumerate(ROLES):
        own, prefix = arranged.environments[role], f"GSI_{role.upper()}_"
        assert own["CUDA_VISIBLE_DEVICES"] == str(number)
        assert own["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
        assert (own[f"{prefix}ENGINE"], own[f"{prefix}DTYPE"]) == ("vllm", "bfloat16")
        assert own[f"{prefix}MODEL"] == PAPER.models[role].name
        assert arguments(arranged, role) == ["--max-model-len", "4096", "--gpu-memory-utilization", "0.90"]
    assert arranged.groups == [list(ROLES)]
    assert arranged.environments["target"]["GSI_TARGET_TEMPERATURE"] == "0.7"


def test_models_that_share_a_gpu_start_one_after_the_other() -> None:
    """The shares are computed; and the PRM, which only reads, leaves the memory of CUDA graphs to the others."""
    arranged = arrange_services("0", PAPER, None, NO_MODELS, {})
    assert arranged.groups == [["draft"], ["target"], ["prm"]]
    assert {own["CUDA_VISIBLE_DEVICES"] for own in arranged.environments.values()} == {"0"}
    assert sum(share(arranged, role) for role in ROLES) <= 0.9
    assert "--enforce-eager" in arguments(arranged, "prm")
    assert "--enforce-eager" not in arguments(arranged, "target")


def test_only_models_on_the_same_gpu_wait_for_each_other() -> None:
    """Draft and PRM share a GPU here, and the target has two of its own."""
    assert order_of_starts(parse_places("0,1+2,0")) == [["draft", "target"], ["prm"]]
    assert order_of_starts(parse_places("0,0+1,1")) == [["draft"], ["target"], ["prm"]]


def test_a_model_is_cut_over_the_gpus_of_its_place() -> None:
    """By tensor parallelism."""
    arranged = arrange_services("0,1+2,0", PAPER, None, NO_MODELS, {})
    assert arranged.environments["target"]["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert arguments(arranged, "target")[-2:] == ["--tensor-parallel-size", "2"]
    assert "--tensor-parallel-size" not in arguments(arranged, "draft")


def test_shares_that_are_given_are_used() -> None:
    """Nothing need be known of the models then."""
    arranged = arrange_services("0:0.15,0:0.35,0:0.3", None, None, NO_MODELS, {})
    assert [share(arranged, role) for role in ROLES] == [0.15, 0.35, 0.3]
    assert "GSI_DRAFT_MODEL" not in arranged.environments["draft"]


def test_computed_shares_hold_the_weights_and_equally_many_tokens() -> None:
    """Beside its weights and the overhead, each model's cache has room for as many tokens as the others' caches."""
    sizes = {role: size_of(find_architecture(role, PAPER.models[role].name)) for role in ROLES}
    shares = compute_shares(sizes, H100, "GPU 0")
    room = {
        role: (shares[role] * H100 - size.weights - OVERHEAD_BYTES) / size.kv_per_token for role, size in sizes.items()
    }
    rounding = 0.01 * H100 / min(size.kv_per_token for size in sizes.values())
    assert max(room.values()) - min(room.values()) <= rounding
    assert 0.87 <= sum(shares.values()) <= 0.9
    with pytest.raises(MisconfiguredError, match=r"need \d+ GB, and GPU 0 has less"):
        compute_shares(sizes, 40e9, "GPU 0")


def test_what_the_operator_set_comes_last() -> None:
    """Of an argument that is given twice, vLLM takes the last; a number format that is set stays."""
    environment = {"GSI_DRAFT_ENGINE_ARGS": "--max-model-len 2048", "GSI_DRAFT_DTYPE": "float16"}
    arranged = arrange_services("0,1,2", PAPER, None, NO_MODELS, environment)
    assert arguments(arranged, "draft")[-2:] == ["--max-model-len", "2048"]
    assert "GSI_DRAFT_DTYPE" not in arranged.environments["draft"]


def test_a_profile_asks_for_its_commits_unless_the_operator_names_others() -> None:
    """The setting that is in force: the profile's, or none of the profile's beside one that is set."""
    arranged = arrange_services("0,1,2", PAPER, None, NO_MODELS, {"GSI_TARGET_REVISION": "main"})
    assert arranged.environments["draft"]["GSI_DRAFT_REVISION"] == PAPER.models["draft"].revision
    assert "GSI_TARGET_REVISION" not in arranged.environments["target"]


def test_transformers_takes_one_whole_gpu_a_model() -> None:
    """It sees one GPU, which is its first."""
    arranged = arrange_services("2", None, "transformers", NO_MODELS, {})
    assert arranged.environments["prm"]["CUDA_VISIBLE_DEVICES"] == "2"
    assert arranged.environments["prm"]["GSI_PRM_DEVICE"] == "cuda:0"
    for places in ("0,1+2,3", "0:0.2,0:0.2,0:0.2"):
        with pytest.raises(MisconfiguredError, match="runs on transformers, which takes one GPU, without a share"):
            arrange_services(places, None, "transformers", NO_MODELS, {})


def test_a_profile_takes_the_gpus_it_finds() -> None:
    """Three if there are three, else one for all; those that a batch system hid are not there."""
    assert arrange_services(None, PAPER, None, NO_MODELS, {}).groups == [list(ROLES)]
    only_one = arrange_services(None, PAPER, None, NO_MODELS, {"CUDA_VISIBLE_DEVICES": "GPU-2"})
    assert {own["CUDA_VISIBLE_DEVICES"] for own in only_one.environments.values()} == {"2"}
    on_the_cpu = arrange_services(None, PAPER, "vllm", NO_MODELS, {})
    assert "CUDA_VISIBLE_DEVICES" not in on_the_cpu.environments["draft"]
    assert arguments(on_the_cpu, "draft") == ["--max-model-len", "4096"]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("0,1", "0,1; allowed: one GPU that all models share, or three places"),
        ("0:0.3", "0:0.3; allowed"),
        ("0,x,2", "'x' is no place"),
        ("0,1+1,2", "'1+1' is no place"),
        ("0:2,1,2", "'0:2' has the share '2'; allowed: above 0 and below 1"),
        ("0:0.5,0,1", "some places on GPU 0 have a share; allowed: all of them, or none"),
        ("0:0.5,0:0.4,0:0.3", "the shares on GPU 0 add up to 1.20; allowed: at most 1"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused(given: str, part: str) -> None:
    """The sentence quotes the part at fault."""
    with pytest.raises(InvalidRequestError) as refused:
        parse_places(given)
    assert part in str(refused.value)


@pytest.mark.parametrize(
    ("given", "environment", "sentence"),
    [
        ("0,1,7", {}, r"there is no GPU 7; there are: 0 \(NVIDIA H100 80GB HBM3, 86 GB\), 1"),
        ("0,1,2", {"CUDA_VISIBLE_DEVICES": "0,1"}, r"there is no GPU 2; there are: 0 .*, 1 [^,]*, 86 GB\)$"),
        ("3,0,1", {}, r"90% of GPU 3 \(.*\) is wanted, but other processes use 20 GB; allowed: another GPU, or"),
        ("4,0,1", {}, r"GPU 4 \(Tesla T4, 16 GB\) has no bfloat16; set GSI_DRAFT_DTYPE=float16"),
        ("4", {"GSI_DRAFT_DTYPE": "float16"}, r"draft, target, prm need 47 GB, and GPU 4"),
    ],
)
def test_gpus_that_cannot_do_it_are_refused_before_anything_starts(
    given: str, environment: dict[str, str], sentence: str
) -> None:
    """The sentence says what is there, or what to do."""
    with pytest.raises(MisconfiguredError, match=sentence):
        arrange_services(given, PAPER, None, NO_MODELS, environment)


def test_a_model_of_unknown_size_needs_shares_to_share_a_gpu() -> None:
    """With a GPU of its own nothing need be known."""
    with pytest.raises(MisconfiguredError, match=r"the size of the draft is not known .*; give shares of the memory"):
        arrange_services("0", None, None, NO_MODELS, {})
    assert share(arrange_services("0,1,2", None, None, NO_MODELS, {}), "draft") == 0.9


def test_a_machine_without_a_gpu_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no driver, the driver has no GPU, or every GPU is hidden."""
    with pytest.raises(MisconfiguredError, match="no GPU: CUDA_VISIBLE_DEVICES is '', which names none of 0 "):
        list_gpus({"CUDA_VISIBLE_DEVICES": ""})
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 0)
    with pytest.raises(MisconfiguredError, match="no GPU: NVML lists none"):
        list_gpus({})

    def fail() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", fail)
    with pytest.raises(MisconfiguredError, match="NVIDIA's driver, says: NVML Shared Library Not Found"):
        list_gpus({})


def test_a_gpu_is_shown_with_its_name_and_memory() -> None:
    """In units of 10^9 bytes, as the planner counts."""
    assert str(InstalledGpu(1, "GPU-1", "NVIDIA L4", 24_000_000_000, 0, (8, 9))) == "1 (NVIDIA L4, 24 GB)"


@pytest.mark.parametrize("name", NAMES)
def test_the_models_of_every_profile_share_a_gpu_of_80_gb(name: str) -> None:
    """Their sizes are known by their names."""
    profile = load_profile(name)
    arranged = arrange_services("0", profile, None, NO_MODELS, {})
    assert 0.8 < sum(share(arranged, role) for role in ROLES) <= 0.9


def test_a_profile_that_there_is_not_names_those_that_there_are() -> None:
    """With the nearest one first."""
    with pytest.raises(MisconfiguredError) as refused:
        load_profile("qwen2.5-maths")
    assert str(refused.value) == (
        "--profile: there is no profile qwen2.5-maths; did you mean qwen2.5-math? "
        "allowed: llama-skywork, qwen2.5-math, qwen3"
    )
