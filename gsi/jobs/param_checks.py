"""Checks of a job's parameters that the range of one field cannot say."""

from pydantic_core import PydanticCustomError

from gsi.algorithm.candidates import Source
from gsi.algorithm.method import Method
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params, ParticleWeights
from gsi.errors import InvalidRequestError
from gsi.limits import MIN_TEMPERATURE

MAX_CANDIDATES = 256  # the largest n in the paper's plots


def check_method(name: str) -> str:
    """Return the name of a method. Raises PydanticCustomError, to which ``payload_errors`` adds what is allowed."""
    if name not in METHODS:
        raise PydanticCustomError("unknown_method", "no such method")
    return name


def check_together(params: Params) -> None:
    """Raise InvalidRequestError for values that are allowed alone but not together."""
    method = METHODS[params.method]
    _check_temperature(params, method)
    if params.stop.reward_floor is not None and not method.asks_rewards(params):
        raise InvalidRequestError(f"params.reward_floor: method {method.name} asks for no reward; allowed: null")
    highest = max(params.judge_prompt.values)
    if "judge_threshold" in method.parameters and params.least_judge_score > highest:
        raise InvalidRequestError(
            f"params.judge_threshold: {params.least_judge_score:g} is not allowed; allowed: null, or a number from "
            f"0 to {highest:g}, the highest answer of judge_prompt {params.judge_prompt}"
        )
    is_tilted = "particle_weights" in method.parameters and params.particle_weights is ParticleWeights.TILTED
    if is_tilted and params.role is not Source.DRAFT:
        raise InvalidRequestError("params.role: tilted particles are the draft's; allowed: draft")
    num_candidates = params.num_beams * params.num_expansions
    if "beam_width" in method.parameters and num_candidates > MAX_CANDIDATES:
        raise InvalidRequestError(
            f"params.beam_width, params.beam_expansion: {num_candidates} candidates a round; "
            f"allowed: at most {MAX_CANDIDATES}"
        )


def _check_temperature(params: Params, method: Method) -> None:
    temperature = params.sampling.temperature
    if 0 < temperature < MIN_TEMPERATURE:
        raise InvalidRequestError(
            f"params.temperature: {temperature:g} is not allowed; allowed: 0 (greedy), or a number from "
            f"{MIN_TEMPERATURE} to 10"
        )
    if temperature == 0 and method.asks_likelihoods(params):
        raise InvalidRequestError(
            f"params.temperature: 0 is greedy, where a likelihood ratio says nothing, and {method.name} needs one; "
            f"allowed: a number from {MIN_TEMPERATURE} to 10"
        )
