"""What the three models allow a job, and whether a job fits the models."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gsi.algorithm.candidates import Source
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Likelihood, Params
from gsi.algorithm.router import Router
from gsi.check.compatibility import check_likelihoods, check_tokenizers
from gsi.errors import InvalidRequestError
from gsi.jobs.job_params import JobParams
from gsi.model_info import ModelInfo
from gsi.router_file import RouterFile, find_misfit


@dataclass(frozen=True, slots=True)
class Limits:
    """What a job may ask of the three models.

    ``temperature``: the only temperature for which the engines report the likelihood "sampling"; None: every one.
    """

    max_length: int
    likelihoods: frozenset[Likelihood]
    temperature: float | None
    has_bounded_rewards: bool = True  # a PRM's rewards are probabilities, an outcome model's are any numbers
    prm_max_length: int | None = None  # the PRM's context in its own tokens; None: not known yet
    num_speculative_tokens: int = 0  # that the target's engine drafts itself; 0: it does not decode speculatively
    judges: frozenset[Source] = frozenset()  # the language models whose services answer Judge
    router: Router | None = None  # of these models
    router_fingerprint: str = ""  # of the router's file
    why_no_router: str = "GSI_COORDINATOR_ROUTER names none"

    def fit(self, params: Params) -> Params:
        """Return a job's parameters with the PRM's context, which ends its answer too, and the models' router."""
        stop = replace(params.stop, prm_max_length=self.prm_max_length)
        return replace(params, stop=stop, router=self.router or params.router)

    def name_router(self, method: str) -> str:
        """Return the fingerprint of the router that decides in a job of this method; "" if none does."""
        return self.router_fingerprint if METHODS[method].asks_router else ""

    def with_router(self, file: RouterFile | None, models: Mapping[str, ModelInfo]) -> "Limits":
        """Return these limits with a router, if it is one of these models."""
        if file is None:
            return self
        misfit = find_misfit(file, models)
        if misfit is None:
            return replace(self, router=file.to_router(), router_fingerprint=file.fingerprint)
        return replace(self, why_no_router=f"the coordinator's is for other models ({misfit})")

    def check(self, params: JobParams) -> None:
        """Raise InvalidRequestError that names a parameter which these engines cannot serve."""
        method = METHODS[params.method]
        if method.needs_speculation(params.to_params()) and not self.num_speculative_tokens:
            name = "method" if method.is_speculative else "resample"
            raise InvalidRequestError(
                f"params.{name}: {getattr(params, name)} needs a target whose engine decodes speculatively, "
                "and this one does not: GSI_TARGET_ENGINE_ARGS=\"--speculative-config '…'\" makes a vLLM engine do so"
            )
        for role in sorted(method.judges(params.to_params()) - self.judges):
            raise InvalidRequestError(
                f"params.method: {params.method} asks the {role} to judge steps, which its service cannot; allowed: "
                "other methods, or a service of this release whose engine or server scores given tokens"
            )
        if method.asks_router and self.router is None:
            raise InvalidRequestError(
                f"params.method: {params.method} needs a router of these models, and there is none: "
                f"{self.why_no_router}; gsi router train makes one"
            )
        if params.likelihood not in self.likelihoods:
            allowed = ", ".join(sorted(self.likelihoods))
            raise InvalidRequestError(
                f"params.likelihood: {params.likelihood} is not reported by these engines; allowed: {allowed}"
            )
        if self.temperature is None or params.likelihood is not Likelihood.SAMPLING:
            return
        if params.temperature == 0:  # greedy, which every engine supports
            return
        if params.temperature != self.temperature:
            raise InvalidRequestError(
                f"params.temperature: {params.temperature} is not the one that these engines report likelihoods of; "
                f"allowed: {self.temperature}"
            )
        if params.top_p < 1:
            raise InvalidRequestError(
                f"params.top_p: these engines report no likelihood of a nucleus; allowed: 1, or likelihood model "
                f"with engines set to it; got {params.top_p}"
            )


def common_limits(draft: ModelInfo, target: ModelInfo, prm: ModelInfo) -> Limits:
    """Return what all three models allow. Raises MisconfiguredError if draft and target do not fit together."""
    check_tokenizers(draft, target)
    check_likelihoods(draft, target)
    shortest = min(draft.max_length, target.max_length, prm.max_length)
    return Limits(
        max_length=shortest - 1,  # the PRM reads a mark behind the first step
        likelihoods=frozenset(draft.likelihoods) & frozenset(target.likelihoods),
        temperature=draft.temperature if draft.temperature is not None else target.temperature,
        has_bounded_rewards=prm.has_bounded_rewards,
        prm_max_length=prm.max_length,
        num_speculative_tokens=target.num_speculative_tokens,
        judges=frozenset(role for role, info in zip(Source, (draft, target), strict=True) if info.can_judge),
    )
