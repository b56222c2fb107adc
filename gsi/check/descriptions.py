"""What can be found in the descriptions of the three models, without asking the models for anything."""

from collections.abc import Callable, Iterator, Mapping

from gsi.algorithm.params import Likelihood, SamplingParams, StopRules
from gsi.check.compatibility import check_likelihoods, check_tokenizers
from gsi.check.findings import Finding, error, good, warning
from gsi.errors import MisconfiguredError
from gsi.model_info import ModelInfo

SHORT_CONTEXT = 256  # tokens: a problem and a step hardly fit

Infos = Mapping[str, ModelInfo]  # by role: draft, target, prm


def look_at_descriptions(infos: Infos) -> Iterator[Finding]:
    """Yield what the descriptions say of tokenizers, likelihoods, ends of sequence, contexts and rewards.

    A model that could not be asked is left out.
    """
    draft, target, prm = (infos.get(role) for role in ("draft", "target", "prm"))
    if draft and target:
        yield _check_pair("tokenizers", check_tokenizers, draft, target, _say_tokens)
        yield _check_pair("likelihood", check_likelihoods, draft, target, _say_likelihood)
        yield from _look_at_defaults(draft, target)
        yield _look_at_ends(draft, target)
    if draft and target and prm:
        yield _look_at_contexts(infos)
    if prm:
        yield _look_at_rewards(prm)


def _check_pair(
    subject: str,
    check: Callable[[ModelInfo, ModelInfo], None],
    draft: ModelInfo,
    target: ModelInfo,
    say: Callable[[ModelInfo, ModelInfo], str],
) -> Finding:
    try:
        check(draft, target)
    except MisconfiguredError as refusal:
        text, _, advice = str(refusal).rpartition(": ")
        return error(subject, text, f"{advice[0].upper()}{advice[1:]}.")
    return good(subject, say(draft, target))


def _say_tokens(draft: ModelInfo, _target: ModelInfo) -> str:
    return f"draft and target have the same {draft.vocabulary_size} tokens"


def _say_likelihood(draft: ModelInfo, target: ModelInfo) -> str:
    common = sorted(set(draft.likelihoods) & set(target.likelihoods), reverse=True)
    temperature = fixed_temperature(draft, target)
    fixed = "at any temperature" if temperature is None else f"at temperature {temperature:g} alone"
    return f"both report {' and '.join(common)}" + (f", sampling {fixed}" if Likelihood.SAMPLING in common else "")


def fixed_temperature(draft: ModelInfo, target: ModelInfo) -> float | None:
    """Return the only temperature at which the engines report sampling; None: any."""
    return draft.temperature if draft.temperature is not None else target.temperature


def choose_sampling(draft: ModelInfo, target: ModelInfo, max_step_tokens: int) -> SamplingParams | None:
    """Return sampling parameters that both engines serve; None if they have no likelihood in common."""
    common = set(draft.likelihoods) & set(target.likelihoods)
    if not common:
        return None
    likelihood = Likelihood.SAMPLING if Likelihood.SAMPLING in common else common.pop()
    temperature = fixed_temperature(draft, target) or SamplingParams().temperature
    return SamplingParams(temperature=temperature, max_step_tokens=max_step_tokens, likelihood=likelihood)


def _look_at_defaults(draft: ModelInfo, target: ModelInfo) -> Iterator[Finding]:
    """Yield a warning if a job that says nothing would be refused."""
    usual, chosen = SamplingParams(), choose_sampling(draft, target, SamplingParams().max_step_tokens)
    if chosen is None:
        return
    names = [name for name in ("likelihood", "temperature") if getattr(usual, name) != getattr(chosen, name)]
    if names:
        wanted = " and ".join(f"{name}={getattr(chosen, name)}" for name in names)
        yield warning(
            "defaults",
            "a job that sets no sampling parameters is refused by these engines",
            f"Let each job set {wanted}, or set the services to likelihood {usual.likelihood} and temperature "
            f"{usual.temperature:g} (GSI_DRAFT_… and GSI_TARGET_LIKELIHOOD, _TEMPERATURE).",
        )


def _look_at_ends(draft: ModelInfo, target: ModelInfo) -> Finding:
    without = [role for role, info in (("draft", draft), ("target", target)) if not info.eos_token_ids]
    if without:
        return error(
            "end of sequence",
            f"{' and '.join(without)} names no token that ends an answer, so that no answer ends by itself",
            "Write eos_token_id into the checkpoint's generation_config.json.",
        )
    if set(draft.eos_token_ids) != set(target.eos_token_ids):
        return warning(
            "end of sequence",
            f"the draft ends at tokens {_list(draft.eos_token_ids)}, the target at {_list(target.eos_token_ids)}",
            "Write the same eos_token_id into both generation_config.json, unless the models are meant to end so.",
        )
    return good("end of sequence", f"draft and target end at tokens {_list(draft.eos_token_ids)}")


def _list(token_ids: tuple[int, ...]) -> str:
    return ", ".join(map(str, sorted(token_ids)))


def _look_at_contexts(infos: Infos) -> Finding:
    lengths = {role: info.max_length for role, info in infos.items()}
    shortest = min(lengths, key=lambda role: lengths[role])
    said = ", ".join(f"{role} {length}" for role, length in lengths.items())
    if lengths[shortest] < SHORT_CONTEXT:
        return error(
            "context",
            f"contexts in tokens: {said}; a problem and its answer hardly fit into {lengths[shortest]}",
            f"Take a {shortest} with a longer context, or set the engine's max-model-len.",
        )
    if shortest == "prm" and lengths["prm"] < min(lengths["draft"], lengths["target"], StopRules().max_tokens):
        return warning(
            "context",
            f"contexts in tokens: {said}; the PRM's ends an answer before the others do",
            f"Expect answers to end as max_tokens there, or set the jobs' max_tokens below {lengths['prm']}.",
        )
    return good("context", f"contexts in tokens: {said}")


def _look_at_rewards(prm: ModelInfo) -> Finding:
    reading = f", read by profile {prm.profile}" if prm.profile else ""
    if not prm.has_bounded_rewards:
        return warning(
            "rewards",
            f"rewards are any real numbers{reading}: an outcome model, whose rewards jobs map by the logistic function",
            "Choose the job's reward_map and calibrate u (gsi calibrate), or take a process reward model.",
        )
    return good("rewards", f"rewards lie between 0 and 1{reading}")
