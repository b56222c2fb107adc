"""How the three services of the local stack start: by a profile's models, on the GPUs of a placement."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gsi.errors import MisconfiguredError
from gsi.local.installed_gpus import VISIBLE, InstalledGpu, find_gpu, list_gpus
from gsi.local.placement import (
    ROLES,
    Place,
    Places,
    choose_shares,
    default_places,
    is_shared,
    order_of_starts,
    parse_places,
)
from gsi.local.profile import Profile
from gsi.planning.architecture import Role

# CUDA numbers GPUs by speed unless told otherwise, and NVML by their place on the bus.
ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
# A checkpoint of 15 GB may be downloaded first. A process that ends is seen at once.
START_SECONDS = 3600.0
# Jobs at once of a coordinator, unless it is set: as in the chart's profile of one GPU.
MAX_JOBS = {"GSI_COORDINATOR_MAX_JOBS": "16"}
BFLOAT16_SINCE = (8, 0)  # compute capability of the first GPUs with bfloat16: Ampere

Environment = dict[str, str]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the services start.

    ``environments``: variables of each role's process, which override what the stack sets. ``coordinator``: the same of
    each coordinator. ``groups``: roles that start together, group after group. ``start_seconds``: how long a process
    may take to be ready. ``said``: a line about each role, for people.
    """

    environments: Mapping[str, Environment] = field(default_factory=lambda: {str(role): {} for role in ROLES})
    coordinator: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Sequence[str]] = (ROLES,)
    start_seconds: float | None = None
    said: Sequence[str] = field(default=())


def arrange_services(
    gpus: str | None,
    profile: Profile | None,
    engine: str | None,
    models: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
) -> Arrangement:
    """Return the arrangement for what the command line says; ``models``: path or name of each role's model.

    A profile without ``gpus`` takes the first three GPUs, or the first one if there are fewer; with an engine it stays
    on the CPU. Raises InvalidRequestError for a value of ``gpus`` that cannot be read, MisconfiguredError for GPUs that
    are not there or too small.
    """
    models = {role: profile.models[role].name for role in ROLES} if profile else models
    own: dict[str, Environment] = {role: _describe_profile(profile, role, environment) for role in ROLES}
    if gpus is None and (profile is None or engine is not None):
        return Arrangement(_join_arguments(own, {}, environment))
    given = None if gpus is None else parse_places(gpus)
    installed = list_gpus(environment)
    places = given or default_places(installed)
    engines = {role: engine or environment.get(_variable(role, "ENGINE"), "vllm") for role in ROLES}
    shares = choose_shares(places, _by_role(models), installed) if "vllm" in engines.values() else {}
    arguments: dict[str, list[str]] = {}
    for role in ROLES:
        place = places[role]
        own[role] |= _place_service(role, place, engines[role], environment)
        _check_number_format(role, own[role], environment, [find_gpu(installed, index) for index in place.gpus])
        if engines[role] == "vllm":
            arguments[role] = _engine_arguments(profile, places, role, shares[role])
    return Arrangement(
        environments=_join_arguments(own, arguments, environment),
        coordinator={name: value for name, value in MAX_JOBS.items() if name not in environment},
        groups=order_of_starts(places),
        start_seconds=START_SECONDS,
        said=[_describe_place(role, models[role], places, installed, shares.get(role)) for role in ROLES],
    )


def _variable(role: str, setting: str) -> str:
    return f"GSI_{role.upper()}_{setting}"


def _by_role(models: Mapping[str, str]) -> dict[Role, str]:
    return {role: models[role] for role in ROLES}


def _describe_profile(profile: Profile | None, role: str, environment: Mapping[str, str]) -> Environment:
    """Return the variables that a profile sets for a role. Only the model takes the place of a variable that is set."""
    if profile is None:
        return {}
    model = profile.models[role]
    own = {_variable(role, "MODEL"): model.name, _variable(role, "ENGINE_ARGS"): shlex.join(model.engine_args)}
    if model.revision is not None and _variable(role, "REVISION") not in environment:
        own[_variable(role, "REVISION")] = model.revision
    if role != "prm":
        sampling = {_variable(role, name.upper()): value for name, value in profile.sampling.items()}
        own |= {name: value for name, value in sampling.items() if name not in environment}
    return own


def _place_service(role: str, place: Place, engine: str, environment: Mapping[str, str]) -> Environment:
    """Return the variables that put a service on its GPUs. Raises MisconfiguredError for what an engine cannot do."""
    own = {VISIBLE: ",".join(map(str, place.gpus)), **ORDER, _variable(role, "ENGINE"): engine}
    if _variable(role, "DTYPE") not in environment:
        own[_variable(role, "DTYPE")] = "bfloat16"
    if engine == "transformers":
        if len(place.gpus) > 1 or place.share is not None:
            raise MisconfiguredError(f"--gpus: the {role} runs on transformers, which takes one GPU, without a share")
        own[_variable(role, "DEVICE")] = "cuda:0"  # the only one that it sees
    return own


def _check_number_format(
    role: str, own: Environment, environment: Mapping[str, str], gpus: Sequence[InstalledGpu]
) -> None:
    name = _variable(role, "DTYPE")
    for gpu in gpus:
        if {**environment, **own}[name] == "bfloat16" and gpu.compute_capability < BFLOAT16_SINCE:
            raise MisconfiguredError(f"--gpus: GPU {gpu} has no bfloat16; set {name}=float16")


def _engine_arguments(profile: Profile | None, places: Places, role: Role, share: float) -> list[str]:
    words = ["--gpu-memory-utilization", f"{share:.2f}"]
    if len(places[role].gpus) > 1:
        words += ["--tensor-parallel-size", str(len(places[role].gpus))]
    if profile is not None and is_shared(places, role):
        words += profile.models[role].engine_args_on_a_shared_gpu
    return words


def _join_arguments(
    own: Mapping[str, Environment], arguments: Mapping[str, list[str]], environment: Mapping[str, str]
) -> dict[str, Environment]:
    """Add the placement's engine arguments to the profile's, and then the operator's: vLLM takes the last of each."""
    joined = {}
    for role, variables in own.items():
        name = _variable(role, "ENGINE_ARGS")
        parts = (variables.get(name, ""), shlex.join(arguments.get(role, ())), environment.get(name, ""))
        words = " ".join(part for part in parts if part)
        joined[role] = variables | ({name: words} if words else {})
    return joined


def _describe_place(
    role: Role, model: str, places: Places, installed: tuple[InstalledGpu, ...], share: float | None
) -> str:
    gpus = " and ".join(str(find_gpu(installed, index)) for index in places[role].gpus)
    of_memory = f", {share:.0%} of the memory" if share is not None else ""
    return f"{role:<7} {model} on GPU {gpus}{of_memory}"
