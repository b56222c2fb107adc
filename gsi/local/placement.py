"""Which model goes to which GPU, and with what share of its memory: what ``gsi up --gpus`` says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.local.installed_gpus import InstalledGpu, find_gpu
from gsi.planning.architecture import Architecture, Role, find_architecture
from gsi.planning.full_batch import USABLE_MEMORY

ROLES: tuple[Role, ...] = ("draft", "target", "prm")
GRAMMAR = (
    "allowed: one GPU that all models share, or three places separated by commas for draft, target and PRM. A place is "
    "a GPU's number, or several with + between them, and may end in a share of the memory, as in 0:0.15,0:0.35,0:0.3"
)
# What an engine takes beside weights and KV cache: CUDA's context, activations, CUDA graphs. An estimate for passes of
# 8,192 tokens, vLLM's default: the logits alone of the candidates that are scored take a gigabyte.
OVERHEAD_BYTES = 3e9
BYTES_PER_VALUE = 2  # bfloat16
LEAST_TOKENS = 4096  # vLLM does not start without a cache for one sequence of the longest kind


@dataclass(frozen=True, slots=True)
class Place:
    """The GPUs of a model, which is cut over them, and its share of the memory of each; None: not given."""

    gpus: tuple[int, ...]
    share: float | None = None


Places = Mapping[Role, Place]


def parse_places(given: str) -> dict[Role, Place]:
    """Read the value of ``--gpus``. Raises InvalidRequestError that quotes the part at fault."""
    places = [_parse_place(part) for part in given.split(",")]
    if len(places) == 1 and places[0].share is None:
        places *= len(ROLES)
    if len(places) != len(ROLES):
        raise InvalidRequestError(f"--gpus: {given}; {GRAMMAR}")
    by_role = dict(zip(ROLES, places, strict=True))
    for gpu, roles in roles_by_gpu(by_role).items():
        _check_given_shares(gpu, [by_role[role].share for role in roles])
    return by_role


def _parse_place(part: str) -> Place:
    numbers, colon, share = part.strip().partition(":")
    gpus = numbers.split("+")
    if not all(number.isascii() and number.isdigit() for number in gpus) or len(set(gpus)) < len(gpus):
        raise InvalidRequestError(f"--gpus: {part!r} is no place; {GRAMMAR}")
    return Place(tuple(map(int, gpus)), _parse_share(part, share) if colon else None)


def _parse_share(part: str, given: str) -> float:
    try:
        share = float(given)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise InvalidRequestError(f"--gpus: {part!r} has the share {given!r}; allowed: above 0 and below 1")
    return share


def _check_given_shares(gpu: int, shares: Sequence[float | None]) -> None:
    given = [share for share in shares if share is not None]
    if 0 < len(given) < len(shares):
        raise InvalidRequestError(f"--gpus: some places on GPU {gpu} have a share; allowed: all of them, or none")
    if sum(given) > 1:
        raise InvalidRequestError(f"--gpus: the shares on GPU {gpu} add up to {sum(given):.2f}; allowed: at most 1")


def roles_by_gpu(places: Places) -> dict[int, list[Role]]:
    """Return the roles that each GPU holds, wholly or in part."""
    gpus = sorted({gpu for place in places.values() for gpu in place.gpus})
    return {gpu: [role for role, place in places.items() if gpu in place.gpus] for gpu in gpus}


def is_shared(places: Places, role: Role) -> bool:
    """Return whether a role has a GPU that another role has too."""
    return any(role in roles and len(roles) > 1 for roles in roles_by_gpu(places).values())


def order_of_starts(places: Places) -> list[list[Role]]:
    """Return the roles in groups that start one after the other: no group has two roles on one GPU.

    An engine measures the free memory when it starts, which must not change meanwhile.
    """
    groups: list[list[Role]] = []
    for role, place in places.items():
        behind = [
            number
            for number, group in enumerate(groups, start=1)
            if any(set(place.gpus) & set(places[other].gpus) for other in group)
        ]
        number = max(behind, default=0)
        groups += [[]] if number == len(groups) else []
        groups[number].append(role)
    return groups


def default_places(gpus: Sequence[InstalledGpu]) -> dict[Role, Place]:
    """Return a GPU for each role if there are three, else the first GPU for all."""
    chosen = gpus[:3] if len(gpus) >= len(ROLES) else [gpus[0]] * len(ROLES)
    return {role: Place((gpu.index,)) for role, gpu in zip(ROLES, chosen, strict=True)}


def choose_shares(places: Places, models: Mapping[Role, str], gpus: tuple[InstalledGpu, ...]) -> dict[Role, float]:
    """Return each model's share of the memory of its GPUs: as given, else computed where several models share.

    Raises MisconfiguredError if a GPU is not there or in use, if models do not fit, or if a model's size is not known.
    """
    shares = {role: place.share or USABLE_MEMORY for role, place in places.items()}
    for index, roles in roles_by_gpu(places).items():
        gpu = find_gpu(gpus, index)
        if len(roles) == 1 or places[roles[0]].share is not None:
            continue
        parts = {role: _find_size(role, models[role], len(places[role].gpus)) for role in roles}
        for role, share in compute_shares(parts, gpu.memory, f"GPU {gpu}").items():
            shares[role] = min(shares[role], share)
    for index, roles in roles_by_gpu(places).items():
        _check_free_memory(find_gpu(gpus, index), sum(shares[role] for role in roles))
    return shares


def _check_free_memory(gpu: InstalledGpu, share: float) -> None:
    """Raise MisconfiguredError if other processes hold what the shares want: an engine would end at its start."""
    if share * gpu.memory > gpu.free:
        in_use = (gpu.memory - gpu.free) / 1e9
        raise MisconfiguredError(
            f"--gpus: {share:.0%} of GPU {gpu} is wanted, but other processes use {in_use:.0f} GB; "
            "allowed: another GPU, or smaller shares"
        )


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of a model on one of its GPUs: its weights, and the KV cache of a token."""

    weights: float
    kv_per_token: float


def size_of(architecture: Architecture, num_gpus: int = 1) -> Size:
    """Return the size of the part of a model that each of its GPUs holds."""
    weights = architecture.num_parameters * BYTES_PER_VALUE / num_gpus
    return Size(weights, architecture.num_kv_values * BYTES_PER_VALUE / num_gpus)


def compute_shares(sizes: Mapping[Role, Size], memory: float, gpu: str) -> dict[Role, float]:
    """Return shares of a GPU's memory, so that each model's cache holds equally many tokens; rounded down to 0.01.

    Raises MisconfiguredError that names the GPU if it has too little memory for the models.
    """
    needed = sum(size.weights + OVERHEAD_BYTES for size in sizes.values())
    kv_per_token = sum(size.kv_per_token for size in sizes.values())
    num_tokens = (USABLE_MEMORY * memory - needed) / kv_per_token
    if num_tokens < LEAST_TOKENS:
        least = (needed + LEAST_TOKENS * kv_per_token) / USABLE_MEMORY
        raise MisconfiguredError(
            f"--gpus: {', '.join(sizes)} need {least / 1e9:.0f} GB, and {gpu} has less; allowed: a GPU for each model, "
            "a larger GPU, smaller models, or your own shares"
        )
    return {
        role: math.floor(100 * (size.weights + OVERHEAD_BYTES + num_tokens * size.kv_per_token) / memory) / 100
        for role, size in sizes.items()
    }


def _find_size(role: Role, model: str, num_gpus: int) -> Size:
    try:
        return size_of(find_architecture(role, model), num_gpus)
    except InvalidRequestError as error:
        raise MisconfiguredError(
            f"--gpus: the size of the {role} is not known ({error}); give shares of the memory, as in "
            "0:0.15,0:0.35,0:0.3, or a GPU for each model"
        ) from None
