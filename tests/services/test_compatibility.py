"""Which models fit together, and which jobs fit the models."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.candidates import Source
from gsi.algorithm.params import Likelihood
from gsi.engines.base import EngineSettings
from gsi.engines.registry import LANGUAGE_ENGINES
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.jobs.job_params import JobParams
from gsi.model_info import ModelInfo
from services.coordinator.compatibility import Limits, common_limits
from services.draft.servicer import SERVICE, add_to_server
from tests.conftest import MODELS
from tests.services.conftest import serving
from tests.system import ModelServices

SAMPLING, MODEL = Likelihood.SAMPLING, Likelihood.MODEL
BOTH = frozenset(Likelihood)

DRAFT = ModelInfo(
    model="small",
    revision="main",
    tokenizer_fingerprint="0123456789abcdef",
    vocabulary_size=305,
    max_length=512,
    eos_token_ids=(257,),
    step_delimiter_token_ids=(260,),
    likelihoods=(SAMPLING, MODEL),
    engine="transformers",
    engine_version="5",
)
TARGET = replace(DRAFT, model="large")
PRM = replace(DRAFT, model="judge", likelihoods=())


def refusal(draft: ModelInfo, target: ModelInfo) -> str:
    """Return why these two cannot work together."""
    with pytest.raises(MisconfiguredError) as refused:
        common_limits(draft, target, PRM)
    return str(refused.value)


@pytest.mark.parametrize("lengths", [(300, 400, 500), (500, 300, 400), (400, 500, 300)])
def test_an_answer_is_as_long_as_the_shortest_context_less_one(lengths: tuple[int, int, int]) -> None:
    """The smallest of the three lengths counts; the PRM needs one token for its mark."""
    models = [replace(info, max_length=length) for info, length in zip((DRAFT, TARGET, PRM), lengths, strict=True)]
    assert common_limits(*models).max_length == 299


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ((SAMPLING, MODEL), (MODEL, SAMPLING), {SAMPLING, MODEL}),
        ((SAMPLING, MODEL), (MODEL,), {MODEL}),
        ((SAMPLING,), (SAMPLING, MODEL), {SAMPLING}),
    ],
)
def test_a_job_may_have_the_likelihoods_that_both_models_report(
    ours: tuple[Likelihood, ...], theirs: tuple[Likelihood, ...], expected: set[Likelihood]
) -> None:
    """The log ratio compares two likelihoods of one kind; the PRM reports no likelihood."""
    limits = common_limits(replace(DRAFT, likelihoods=ours), replace(TARGET, likelihoods=theirs), PRM)
    assert limits.likelihoods == expected


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"), [(None, None, None), (0.7, None, 0.7), (None, 0.9, 0.9), (0.6, 0.6, 0.6)]
)
def test_the_temperature_is_that_of_whichever_is_fixed(
    ours: float | None, theirs: float | None, expected: float | None
) -> None:
    """The other model can follow it."""
    limits = common_limits(replace(DRAFT, temperature=ours), replace(TARGET, temperature=theirs), PRM)
    assert limits.temperature == expected


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"vocabulary_size": 306}, "vocabulary size 305 and 306"),
        ({"tokenizer_fingerprint": "f" * 64}, "vocabulary fingerprint 0123456789ab and ffffffffffff"),
        ({"step_delimiter_token_ids": (198, 198)}, "token ids of the step delimiter (260,) and (198, 198)"),
        (
            {"vocabulary_size": 306, "step_delimiter_token_ids": ()},
            "vocabulary size 305 and 306; token ids of the step delimiter (260,) and ()",
        ),
    ],
)
def test_models_with_different_tokenizers_are_refused_with_what_differs(changes: dict[str, Any], phrase: str) -> None:
    """The same ids would name other tokens, and every log ratio would be noise."""
    assert refusal(DRAFT, replace(TARGET, **changes)) == (
        f"draft small and target large have different tokenizers: {phrase}. "
        "GSI needs the same token ids in both: choose two models of one family"
    )


def test_the_prm_may_have_another_tokenizer() -> None:
    """The PRM reads text. Different names and engines of the models do not matter either."""
    prm = replace(PRM, tokenizer_fingerprint="f" * 64, vocabulary_size=9, step_delimiter_token_ids=(1, 1))
    limits = common_limits(DRAFT, replace(TARGET, engine="vllm", engine_version="0.32"), prm)
    assert limits == Limits(511, BOTH, None, prm_max_length=512)


def test_models_without_a_common_likelihood_are_refused_with_the_settings_to_change() -> None:
    """Each model reports one kind of likelihood, and the kinds differ."""
    assert refusal(replace(DRAFT, likelihoods=(SAMPLING,)), replace(TARGET, likelihoods=(MODEL,))) == (
        "the draft reports likelihood sampling, the target model: "
        "set GSI_DRAFT_LIKELIHOOD and GSI_TARGET_LIKELIHOOD to the same"
    )


def test_models_that_are_set_to_two_temperatures_are_refused_with_both() -> None:
    """No job could ask for a temperature that suits both."""
    assert refusal(replace(DRAFT, temperature=0.7), replace(TARGET, temperature=0.9)) == (
        "the draft is set to temperature 0.7, the target to 0.9: "
        "set GSI_DRAFT_TEMPERATURE and GSI_TARGET_TEMPERATURE to the same"
    )


@pytest.mark.parametrize(
    ("limits", "params", "sentence"),
    [
        (
            Limits(511, frozenset({SAMPLING}), None),
            JobParams(likelihood=MODEL),
            "params.likelihood: model is not reported by these engines; allowed: sampling",
        ),
        (
            Limits(511, frozenset({MODEL}), None),
            JobParams(),
            "params.likelihood: sampling is not reported by these engines; allowed: model",
        ),
        (
            Limits(511, frozenset({SAMPLING}), 0.9),
            JobParams(temperature=0.6),
            "params.temperature: 0.6 is not the one that these engines report likelihoods of; allowed: 0.9",
        ),
        (
            Limits(511, frozenset({SAMPLING}), 0.7),
            JobParams(top_p=0.8),
            "params.top_p: these engines report no likelihood of a nucleus; allowed: 1, or likelihood model "
            "with engines set to it; got 0.8",
        ),
        (
            Limits(511, frozenset({SAMPLING}), None, judges=frozenset({Source.DRAFT})),
            JobParams(method="spec-reason"),
            "params.method: spec-reason asks the target to judge steps, which its service cannot; allowed: "
            "other methods, or a service of this release whose engine or server scores given tokens",
        ),
        (
            Limits(511, frozenset({SAMPLING}), None, judges=frozenset({Source.TARGET})),
            JobParams(method="conf-spec"),
            "params.method: conf-spec asks the draft to judge steps, which its service cannot; allowed: "
            "other methods, or a service of this release whose engine or server scores given tokens",
        ),
    ],
)
def test_a_job_that_does_not_fit_is_refused_with_the_field_and_what_is_allowed(
    limits: Limits, params: JobParams, sentence: str
) -> None:
    """The refusal comes before a model works on the job."""
    with pytest.raises(InvalidRequestError) as refused:
        limits.check(params)
    assert str(refused.value) == sentence


def test_a_job_is_judged_by_the_models_that_can() -> None:
    """A model's description says so; that of an older release does not."""
    limits = common_limits(DRAFT, replace(TARGET, can_judge=True), PRM)
    assert limits.judges == {Source.TARGET}
    limits.check(JobParams(method="spec-reason"))
    assert common_limits(DRAFT, TARGET, PRM).judges == frozenset()


@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_greedy_fits_engines_of_every_temperature(top_p: float) -> None:
    """The likeliest token is the same at each temperature, and in each nucleus."""
    greedy = JobParams().model_copy(update={"temperature": 0.0, "top_p": top_p})
    Limits(511, frozenset({SAMPLING}), 0.9).check(greedy)


def test_a_job_that_fits_passes() -> None:
    """A job with the engines' temperature and without a nucleus passes."""
    Limits(511, frozenset({SAMPLING}), 0.9).check(JobParams(temperature=0.9))


@given(st.floats(0.01, 10), st.floats(0.01, 1), st.sampled_from(Likelihood))
def test_engines_that_are_set_to_no_temperature_take_every_one(
    temperature: float, top_p: float, likelihood: Likelihood
) -> None:
    """Such engines compute the likelihood for the job's temperature and nucleus."""
    Limits(511, BOTH, None).check(JobParams(temperature=temperature, top_p=top_p, likelihood=likelihood))


@given(st.floats(0.01, 10), st.floats(0.01, 1))
def test_the_bare_models_likelihood_fits_every_temperature_and_nucleus(temperature: float, top_p: float) -> None:
    """That likelihood does not depend on how the tokens were sampled."""
    Limits(511, BOTH, 0.7).check(JobParams(temperature=temperature, top_p=top_p, likelihood=MODEL))


@pytest.mark.asyncio(loop_scope="session")
async def test_models_with_different_tokenizers_are_refused(
    model_services: ModelServices, queue: str, tmp_path: Path
) -> None:
    """The coordinator does not start, and names the differences."""
    other = tmp_path / "draft"
    shutil.copytree(MODELS / "draft", other)
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    last = tokenizer["added_tokens"][-1]
    last["content"] = f"{last['content']}-renamed"
    vocabulary = tokenizer["model"].get("vocab", {})
    vocabulary |= {last["content"]: last["id"]}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    load = partial(LANGUAGE_ENGINES.load, "transformers", EngineSettings(str(other), num_threads=1))
    async with serving(SERVICE, add_to_server, load) as draft:
        settings = {"GSI_COORDINATOR_DRAFT": draft.address}
        with pytest.raises(MisconfiguredError, match="coordinator-1 did not start") as raised:
            async with model_services.coordinators(queue, settings=settings):
                pass
    message = str(raised.value)
    assert "have different tokenizers" in message
    assert "vocabulary fingerprint" in message
