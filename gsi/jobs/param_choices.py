"""The parameters of a job that are choices with numbers: types and defaults, from the registries of the algorithm."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from gsi.algorithm.n_rule import N_RULES
from gsi.algorithm.reward_map import REWARD_MAPS
from gsi.algorithm.weighting import WEIGHTINGS
from gsi.jobs.choices import Choice, choice_type

CHOICES: Mapping[str, Mapping[str, Any]] = {"weighting": WEIGHTINGS, "reward_map": REWARD_MAPS, "n_rule": N_RULES}
if TYPE_CHECKING:  # the registries make the types
    Weighting = Choice
    RewardMap = Choice
    NRule = Choice
else:
    Weighting = choice_type("weighting", WEIGHTINGS)
    RewardMap = choice_type("reward_map", REWARD_MAPS)
    NRule = choice_type("n_rule", N_RULES)
DEFAULT_WEIGHTING: Weighting = TypeAdapter(Weighting).validate_python({"name": "binary", "delta": 0.7})  # both papers'
# Of a job that names no map: of rewards within [0, 1], and of others.
BOUNDED_REWARD_MAP, UNBOUNDED_REWARD_MAP = (
    TypeAdapter(RewardMap).validate_python({"name": name}) for name in ("raw", "logistic")
)
