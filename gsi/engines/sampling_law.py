"""Requests to an engine that reports one likelihood only, with "sampling" at one temperature only."""

from gsi.algorithm.params import SamplingParams
from gsi.errors import InvalidRequestError
from gsi.model_info import ModelInfo

TEMPERATURE_TOLERANCE = 1e-6


def check_one_law(info: ModelInfo, sampling: SamplingParams) -> None:
    """Raise InvalidRequestError if this engine cannot report the likelihoods that the request wants."""
    if sampling.likelihood not in info.likelihoods:
        raise InvalidRequestError(
            f"likelihood is {sampling.likelihood}; allowed: {info.likelihoods[0]}, which this engine is set to"
        )
    fixed = info.temperature
    if sampling.temperature == 0:  # greedy: the likeliest token is the same at every temperature, in every nucleus
        return
    if fixed is not None and abs(sampling.temperature - fixed) > TEMPERATURE_TOLERANCE:
        raise InvalidRequestError(
            f"temperature is {sampling.temperature}; allowed: {fixed}, which this engine is set to"
        )
    if fixed is not None and sampling.top_p < 1:
        raise InvalidRequestError(
            f"top_p is {sampling.top_p}; allowed: 1 with likelihood sampling on engine {info.engine}, which scores no "
            "nucleus"
        )
