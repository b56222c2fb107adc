"""What every engine must do. The test file of an engine subclasses these classes and loads the engine.

The reference is a plain Hugging Face forward pass over the whole sequence, without caches or batches.
"""

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import cache, lru_cache
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies
from scipy import stats
from transformers import AutoModelForCausalLM, AutoTokenizer

from gsi.algorithm.candidates import Candidate, FinishReason, Message
from gsi.algorithm.judging import JudgePrompt, Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import StepText, TokenSequence
from gsi.engines.base import ContextExceededError, LanguageEngine, RewardEngine
from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from gsi.errors import InvalidRequestError
from gsi.rpc.convert import ReceivedText, ReceivedTokens
from tests.conftest import MODELS

PROMPT = (
    "On Sunday Mia has 27 shells. On Monday Tom gives her 11 shells. "
    "On Tuesday she uses 18 shells. On Wednesday she triples the shells. "
    "On Thursday she finds 16 shells. How many shells does Mia have at the end?"
)
MESSAGES = (Message("user", PROMPT),)
STEPS = ("On Monday Tom gives her 11 shells, so Mia now has 27 + 11 = 38 shells.\n\n",)
TOLERANCE = 1e-4  # nats over a whole step, in fp32
# Several classes run a test of a contract, each with its engine. Examples are derandomised (tests/conftest.py), so that
# none is kept in a database, from which another class would replay it.
OF_A_CONTRACT = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)
ROUNDED_TOKENS = 16  # that many improbable tokens may differ by so much: rounding adds up, garbage is off by whole nats


async def batches(*given: Sequence[Any]) -> AsyncGenerator[Sequence[Any], None]:
    for batch in given:
        yield batch


def law(engine: LanguageEngine, **wanted: Any) -> SamplingParams:
    """Return the wanted sampling parameters, with the likelihood and the temperature that the engine is set to."""
    sampling = SamplingParams(**wanted)
    if sampling.likelihood not in engine.info.likelihoods:
        sampling = dataclasses.replace(sampling, likelihood=engine.info.likelihoods[0])
    if engine.info.temperature is not None:
        sampling = dataclasses.replace(sampling, temperature=engine.info.temperature)
    return sampling


async def propose_all(engine: LanguageEngine, n: int, sampling: SamplingParams, seed: int = 7) -> list[Candidate]:
    prefix = engine.render(MESSAGES)
    candidates = [candidate async for batch in engine.propose(prefix, n, sampling, seed) for candidate in batch]
    return sorted(candidates, key=lambda candidate: candidate.index)


async def score_all(
    engine: LanguageEngine,
    candidates: Sequence[TokenSequence],
    sampling: SamplingParams,
    prefix: Sequence[int] | None = None,
) -> list[float]:
    answers = engine.score(prefix or engine.render(MESSAGES), sampling, batches(candidates))
    values = {score.index: score.value async for batch in answers for score in batch}
    return [values[candidate.index] for candidate in candidates]


async def rate_all(engine: RewardEngine, candidates: Sequence[StepText], steps: Sequence[str] = STEPS) -> list[float]:
    values = {s.index: s.value async for batch in engine.score(MESSAGES, steps, batches(candidates)) for s in batch}
    return [values[candidate.index] for candidate in candidates]


@cache
def reference(role: str) -> tuple[Any, Any]:
    kind: Any = Qwen2ForProcessRewardModel if role == "prm" else AutoModelForCausalLM
    path = str(MODELS / role)
    return kind.from_pretrained(path, dtype=torch.float32).eval(), AutoTokenizer.from_pretrained(path)


@lru_cache(maxsize=16)
@torch.inference_mode()
def reference_logits(tokens: tuple[int, ...]) -> torch.Tensor:
    """Return the target's logits ``[tokens, vocabulary]`` of one pass, in double precision and without padding."""
    model, tokenizer = reference("target")
    logits: torch.Tensor = model(torch.tensor([tokens])).logits[0, :, : len(tokenizer)].double()
    return logits


@torch.inference_mode()
def reference_log_likelihood(prefix: Sequence[int], token_ids: Sequence[int], sampling: SamplingParams) -> float:
    """Read the whole sequence at once, and sum the log-probabilities token by token; find the nucleus by sorting."""
    logits = reference_logits((*prefix, *token_ids[:-1]))  # nothing follows the last token
    temperature = sampling.temperature if sampling.likelihood is Likelihood.SAMPLING else 1.0
    top_p = sampling.top_p if sampling.likelihood is Likelihood.SAMPLING else 1.0
    total = 0.0
    for position, token in enumerate(token_ids):
        row = logits[len(prefix) + position - 1] / temperature
        if top_p >= 1:  # the sum below would reach 1 before the least likely tokens
            total += float(torch.log_softmax(row, dim=-1)[token])
            continue
        law = torch.softmax(row, dim=-1)
        nucleus, mass = set(), 0.0
        for candidate in law.argsort(descending=True).tolist():
            if mass >= top_p:
                break
            nucleus.add(candidate)
            mass += float(law[candidate])
        total += float(torch.log(law[token] / law[list(nucleus)].sum())) if token in nucleus else -torch.inf
    return total


@torch.inference_mode()
def reference_judgement(token_ids: Sequence[int], question: Question) -> list[float]:
    """Read the whole sequence at once; return the softmax over the labels of the token that comes next."""
    model, tokenizer = reference("target")
    logits = model(torch.tensor([list(token_ids)])).logits[0, -1].double()
    labels = [tokenizer.encode(label)[0] for label in question.labels]
    probabilities: list[float] = torch.softmax(logits[labels], dim=-1).tolist()
    return probabilities


def check_scores(
    values: Sequence[float],
    expected: Sequence[float],
    candidates: Sequence[TokenSequence],
    tolerance: float = TOLERANCE,
) -> None:
    """Compare the scores of random tokens with the reference, each within its rounding error."""
    for value, reference_value, candidate in zip(values, expected, candidates, strict=True):
        allowed = tolerance * max(1.0, len(candidate.token_ids) / ROUNDED_TOKENS)
        assert value == pytest.approx(reference_value, abs=allowed)


@strategies.composite
def scoring_requests(draw: strategies.DrawFn, vocabulary_size: int) -> tuple[tuple[int, ...], list[ReceivedTokens]]:
    """Draw a context and candidates behind it, with lengths that often end a block of 32 tokens."""
    lengths = strategies.one_of(strategies.integers(1, 200), strategies.sampled_from([31, 32, 33, 64, 96, 128, 160]))
    seed = random.Random(draw(strategies.integers(0, 3)))  # few contexts, so that some have been read before
    prefix = tuple(seed.randrange(vocabulary_size) for _ in range(draw(lengths)))
    token = strategies.integers(0, vocabulary_size - 1)
    start = draw(strategies.lists(token, max_size=70))
    ends = draw(strategies.lists(strategies.lists(token, min_size=1, max_size=40), min_size=1, max_size=5))
    rows = [*(start + end for end in ends), ends[0], start + ends[0]]
    return prefix, [ReceivedTokens(index, tuple(row)) for index, row in enumerate(rows)]


class LanguageEngineContract:
    """A draft or target engine. Subclasses give the fixture ``engine``, on the shipped target model.

    ``tolerance`` (nats over a step): of likelihoods against a plain forward pass.
    """

    tolerance = TOLERANCE

    async def test_every_candidate_is_finished_once(self, engine: LanguageEngine) -> None:
        """A proposal has indices 0 to n - 1, each once."""
        candidates = await propose_all(engine, 16, law(engine, temperature=1.5))
        assert [candidate.index for candidate in candidates] == list(range(16))

    async def test_a_step_ends_with_its_delimiter_or_the_end_of_sequence(self, engine: LanguageEngine) -> None:
        """The text is decoded from the tokens and never cut: the delimiter is part of the step."""
        for candidate in await propose_all(engine, 16, law(engine, temperature=1.5)):
            assert candidate.finish_reason is not FinishReason.LENGTH
            ends_with_delimiter = candidate.text.endswith("\n\n") and candidate.text.count("\n\n") == 1
            ends_sequence = candidate.token_ids[-1] in engine.info.eos_token_ids
            assert ends_with_delimiter == (candidate.finish_reason is FinishReason.DELIMITER)
            assert ends_sequence == (candidate.finish_reason is FinishReason.EOS)

    async def test_a_candidate_is_no_longer_than_asked(self, engine: LanguageEngine) -> None:
        """It ends with reason "length" at max_step_tokens."""
        for candidate in await propose_all(engine, 4, law(engine, max_step_tokens=2)):
            assert (len(candidate.token_ids), candidate.finish_reason) == (2, FinishReason.LENGTH)

    async def test_the_texts_of_steps_add_up(self, engine: LanguageEngine) -> None:
        """Wherever a limit cuts: the first prefix here ends inside of a character."""
        tokenizer = AutoTokenizer.from_pretrained(MODELS / "target")
        prefix = [*engine.render(MESSAGES), *tokenizer.encode("€", add_special_tokens=False)[:1]]
        tokens, text = list(prefix), ""
        for seed in range(12):
            (candidate,) = [
                one async for batch in engine.propose(tokens, 1, law(engine, max_step_tokens=1), seed) for one in batch
            ]
            tokens += candidate.token_ids
            text += candidate.text
        begin = len(engine.render(MESSAGES))
        assert text == tokenizer.decode(tokens[begin:], skip_special_tokens=True).rstrip("\ufffd")

    async def test_candidates_come_as_they_finish(self, engine: LanguageEngine) -> None:
        """A short candidate does not wait for the longest."""
        prefix = engine.render(MESSAGES)
        batches = [batch async for batch in engine.propose(prefix, 32, law(engine, temperature=2.0), 3)]
        assert len(batches) > 1

    async def test_the_same_seed_gives_the_same_candidates(self, engine: LanguageEngine) -> None:
        """A resumed job writes what it would have written without the interruption."""
        once, again = await propose_all(engine, 8, law(engine)), await propose_all(engine, 8, law(engine))
        assert [candidate.token_ids for candidate in once] == [candidate.token_ids for candidate in again]

    async def test_candidates_and_seeds_draw_independently(self, engine: LanguageEngine) -> None:
        """At a high temperature hardly any two candidates are equal, in one proposal or in two."""
        hot = law(engine, temperature=2.0)
        both = await propose_all(engine, 8, hot, seed=1) + await propose_all(engine, 8, hot, seed=2)
        assert len({candidate.token_ids for candidate in both}) >= 12

    async def test_tokens_are_drawn_from_the_sampling_law(self, engine: LanguageEngine) -> None:
        """A chi-square test of 4,000 first tokens against softmax(logits / T) of a plain forward pass."""
        sampling = law(engine, temperature=2.0, max_step_tokens=1)
        drawn: Counter[int] = Counter()
        for seed in range(4):
            drawn.update(candidate.token_ids[0] for candidate in await propose_all(engine, 1000, sampling, seed))
        model, _ = reference("target")
        with torch.inference_mode():
            logits = model(torch.tensor([engine.render(MESSAGES)])).logits[0, -1].double()
        expected = 4000 * torch.softmax(logits / sampling.temperature, dim=-1)
        common = [token for token in range(len(expected)) if expected[token] >= 5]
        observed = [drawn[token] for token in common]
        rest = 4000 - sum(observed), 4000 - float(expected[common].sum())
        laws = [*observed, rest[0]], [*expected[common].tolist(), rest[1]]
        assert stats.chisquare(*laws).pvalue > 1e-4

    @pytest.mark.parametrize("likelihood", list(Likelihood))
    async def test_likelihoods_are_those_of_a_plain_forward_pass(
        self, engine: LanguageEngine, likelihood: Likelihood
    ) -> None:
        """This holds for samples and for scores, in each likelihood that the engine can report."""
        sampling = law(engine, temperature=1.3, likelihood=likelihood)
        candidates = await propose_all(engine, 8, sampling)
        prefix = engine.render(MESSAGES)
        expected = [reference_log_likelihood(prefix, candidate.token_ids, sampling) for candidate in candidates]
        assert [candidate.log_likelihood for candidate in candidates] == pytest.approx(expected, abs=self.tolerance)
        assert await score_all(engine, candidates, sampling) == pytest.approx(expected, abs=self.tolerance)

    async def test_greedy_writes_the_likeliest_tokens_whatever_the_seed(self, engine: LanguageEngine) -> None:
        """At temperature 0 every token is the argmax of a plain forward pass."""
        prefix, (model, _) = engine.render(MESSAGES), reference("target")
        for likelihood in engine.info.likelihoods:
            greedy = SamplingParams(temperature=0.0, likelihood=likelihood)
            candidates = [await propose_all(engine, 3, greedy, seed) for seed in (1, 2)]
            (written,) = {candidate.token_ids for proposal in candidates for candidate in proposal}
            with torch.inference_mode():
                logits = model(torch.tensor([[*prefix, *written]])).logits[0, len(prefix) - 1 : -1]
            assert list(written) == logits.argmax(dim=-1).tolist()
            is_certain = likelihood is Likelihood.SAMPLING
            expected = 0.0 if is_certain else reference_log_likelihood(prefix, written, greedy)
            for candidate in candidates[0]:
                assert candidate.log_likelihood == pytest.approx(expected, abs=0 if is_certain else self.tolerance)

    async def test_greedy_has_no_likelihood_to_score_by(self, engine: LanguageEngine) -> None:
        """Nearly every candidate would have -inf, and no ratio. The bare model's likelihood does not change."""
        candidates = await propose_all(engine, 2, law(engine))
        with pytest.raises(InvalidRequestError, match=r"sampling\.temperature is 0"):
            await score_all(engine, candidates, SamplingParams(temperature=0.0, likelihood=Likelihood.SAMPLING))
        if Likelihood.MODEL in engine.info.likelihoods:
            bare = SamplingParams(temperature=0.0, likelihood=Likelihood.MODEL)
            prefix = engine.render(MESSAGES)
            expected = [reference_log_likelihood(prefix, candidate.token_ids, bare) for candidate in candidates]
            assert await score_all(engine, candidates, bare) == pytest.approx(expected, abs=self.tolerance)

    @settings(max_examples=25, suppress_health_check=OF_A_CONTRACT)
    @given(data=strategies.data())
    async def test_a_score_is_that_of_a_plain_forward_pass_whatever_was_read_before(
        self, engine: LanguageEngine, data: strategies.DataObject
    ) -> None:
        """The candidates may be equal, begin alike, end on a block, or have been scored before."""
        sampling = law(engine, temperature=1.3)
        prefix, candidates = data.draw(scoring_requests(engine.info.vocabulary_size))
        expected = [reference_log_likelihood(prefix, candidate.token_ids, sampling) for candidate in candidates]
        for _ in range(data.draw(strategies.integers(1, 2))):
            check_scores(await score_all(engine, candidates, sampling, prefix), expected, candidates, self.tolerance)

    @pytest.mark.parametrize("prompt", JudgePrompt)
    @pytest.mark.parametrize("ending", ["", "\n\n", "<|im_end|>"], ids=["text", "delimiter", "end"])
    async def test_a_judges_probabilities_are_those_of_a_plain_forward_pass(
        self, engine: LanguageEngine, prompt: JudgePrompt, ending: str
    ) -> None:
        """Softmax over the labels' logits at temperature 1, whatever the engine's, behind a turn of the user."""
        question = prompt.question
        answer = f"On Monday Tom gives her 11 shells, so Mia now has 27 + 11 = 38 shells.{ending}"
        prefix, (_, tokenizer) = engine.render(MESSAGES), reference("target")
        prefix += tuple(tokenizer.encode(answer))
        turn = f"<|im_end|>\n<|im_start|>user\n{question.text}<|im_end|>\n<|im_start|>assistant\n{question.opening}"
        turn = turn.removeprefix(ending) if ending.startswith("<") else turn  # the end of an answer is written once
        expected = reference_judgement([*prefix, *tokenizer.encode(turn)], question)
        for _ in range(2):  # the second time all is in the cache
            found = await engine.judge(prefix, question)
            assert found.values == pytest.approx(expected, abs=self.tolerance)
            assert sum(found.values) == pytest.approx(1)
            assert found.num_tokens == len(tokenizer.encode(turn))

    @settings(max_examples=25, suppress_health_check=OF_A_CONTRACT)
    @given(data=strategies.data())
    async def test_a_judge_may_be_asked_anything_behind_any_prefix(
        self, engine: LanguageEngine, data: strategies.DataObject
    ) -> None:
        """Without a question the labels follow the opening, and without an opening the prefix."""
        prefix, _ = data.draw(scoring_requests(engine.info.vocabulary_size))
        opening = data.draw(strategies.sampled_from(["", "Score: ", "x"]))
        labels = data.draw(strategies.sets(strategies.sampled_from("0123456789"), min_size=1))
        question = Question("", opening, tuple(labels))
        _, tokenizer = reference("target")
        expected = reference_judgement([*prefix, *tokenizer.encode(opening)], question)
        found = await engine.judge(prefix, question)
        assert found.values == pytest.approx(expected, abs=self.tolerance)
        assert found.num_tokens == len(tokenizer.encode(opening))

    async def test_a_judgement_leaves_proposals_and_scores_as_they_are(self, engine: LanguageEngine) -> None:
        """The prefix is read once for all of them; what was asked about it is no part of it."""
        candidates = await propose_all(engine, 4, law(engine))
        scores = await score_all(engine, candidates, law(engine))
        await asyncio.gather(*(engine.judge(engine.render(MESSAGES), prompt.question) for prompt in JudgePrompt))
        again = await propose_all(engine, 4, law(engine))
        assert [candidate.token_ids for candidate in again] == [candidate.token_ids for candidate in candidates]
        assert await score_all(engine, candidates, law(engine)) == pytest.approx(scores, abs=self.tolerance)

    @pytest.mark.parametrize(
        ("question", "message"),
        [
            (Question("Good?", "", ("Yes",)), r"labels: 'Yes' is 3 tokens of this model; allowed: one token"),
            (Question("Good?", "", ("",)), r"labels: '' is 0 tokens of this model; allowed: one token"),
        ],
    )
    async def test_a_label_is_one_token(self, engine: LanguageEngine, question: Question, message: str) -> None:
        """A first token alone would say something about every text that begins so."""
        with pytest.raises(InvalidRequestError, match=message):
            await engine.judge(engine.render(MESSAGES), question)

    async def test_a_question_without_room_is_refused_with_the_room_of_a_prefix(self, engine: LanguageEngine) -> None:
        """The longest prefix that it names is answered; a token more is not."""
        question = JudgePrompt.VERDICT.question
        with pytest.raises(
            ContextExceededError, match=r"prefix has 500 tokens and the judge's question \d+; "
        ) as error:
            await engine.judge([1] * 500, question)
        room = error.value.room
        assert (await engine.judge([1] * room, question)).num_tokens == engine.info.max_length - room
        with pytest.raises(ContextExceededError):
            await engine.judge([1] * (room + 1), question)

    async def test_a_judge_refuses_a_prefix_that_no_model_reads(self, engine: LanguageEngine) -> None:
        """As for a proposal: none, or a token outside the vocabulary."""
        for prefix, message in (((), "prefix has 0 tokens"), ((1, 99_999), "token id 99999")):
            with pytest.raises(InvalidRequestError, match=message):
                await engine.judge(prefix, JudgePrompt.SCORE.question)

    async def test_scores_do_not_depend_on_their_batch(self, engine: LanguageEngine) -> None:
        """A candidate has the same score alone, with longer candidates, and with its duplicate."""
        sampling = law(engine, temperature=1.5)
        candidates = await propose_all(engine, 6, sampling)
        doubled = [ReceivedTokens(i, c.token_ids) for i, c in enumerate([*candidates, *candidates])]
        together = await score_all(engine, doubled, sampling)
        alone = [(await score_all(engine, [candidate], sampling))[0] for candidate in candidates]
        assert together == pytest.approx(alone + alone, abs=self.tolerance)

    async def test_scoring_answers_every_message_of_a_stream(self, engine: LanguageEngine) -> None:
        """Later candidates are scored behind the same prefix; each candidate is answered once."""
        candidates = await propose_all(engine, 4, law(engine))
        answers = engine.score(engine.render(MESSAGES), law(engine), batches(candidates[:1], candidates[1:]))
        indices = [score.index async for batch in answers for score in batch]
        assert sorted(indices) == [candidate.index for candidate in candidates]

    @pytest.mark.parametrize("length", [0, 512, 600])
    async def test_a_prefix_that_does_not_fit_is_refused(self, engine: LanguageEngine, length: int) -> None:
        """The error names the length of the prefix and the lengths allowed."""
        longest = engine.info.max_length - 1
        with pytest.raises(InvalidRequestError, match=f"prefix has {length} tokens; allowed: 1 to {longest}"):
            await anext(engine.propose([0] * length, 1, law(engine), 0))

    async def test_a_token_id_outside_the_vocabulary_is_refused(self, engine: LanguageEngine) -> None:
        """The engine would otherwise read past the embedding."""
        with pytest.raises(InvalidRequestError, match="token id 99999"):
            await anext(engine.propose([1, 99_999], 1, law(engine), 0))

    @pytest.mark.parametrize(
        ("token_ids", "message"),
        [
            ((1,) * 600, r"candidate has 600 tokens; allowed: 1 to"),
            ((), r"candidate has 0 tokens; allowed: 1 to"),
            ((1, 99_999), "candidate has token id 99999; allowed: 0 to"),
        ],
    )
    async def test_a_candidate_that_does_not_fit_is_refused(
        self, engine: LanguageEngine, token_ids: tuple[int, ...], message: str
    ) -> None:
        """The engine would read past its context or its embedding, for seconds and in gigabytes."""
        with pytest.raises(InvalidRequestError, match=message):
            await score_all(engine, [ReceivedTokens(0, (1,)), ReceivedTokens(1, token_ids)], law(engine))

    async def test_a_proposal_may_fill_the_context_and_no_more(self, engine: LanguageEngine) -> None:
        """A candidate ends with reason "length" where the model's context ends."""
        prefix = (engine.render(MESSAGES) * 20)[: engine.info.max_length - 1]
        (candidate,) = [c async for batch in engine.propose(prefix, 1, law(engine), 0) for c in batch]
        assert len(candidate.token_ids) == 1
        assert await score_all(engine, [candidate], law(engine), prefix) == pytest.approx(
            [candidate.log_likelihood], abs=self.tolerance
        )

    async def test_a_closed_proposal_leaves_the_engine_free(self, engine: LanguageEngine) -> None:
        """Closing the stream stops its work; the next request is answered."""
        async with aclosing(engine.propose(engine.render(MESSAGES), 64, law(engine, temperature=2.0), 0)) as stream:
            await anext(stream)
        assert len(await propose_all(engine, 2, law(engine))) == 2

    async def test_the_prompt_is_rendered_by_the_chat_template(self, engine: LanguageEngine) -> None:
        """The token ids are the tokenizer's own, up to where the assistant's answer starts."""
        _, tokenizer = reference("target")
        conversation = [{"role": "user", "content": PROMPT}]
        expected = tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        assert list(engine.render(MESSAGES)) == expected

    async def test_the_model_describes_itself(self, engine: LanguageEngine) -> None:
        """What the coordinator compares and what a job may ask for."""
        info, (_, tokenizer) = engine.info, reference("target")
        assert info.vocabulary_size == len(tokenizer)
        assert info.max_length in {511, 512}  # vLLM keeps room for a token
        assert info.step_delimiter_token_ids == tuple(tokenizer("\n\n")["input_ids"])
        assert info.likelihoods
        assert info.can_judge
        assert info.num_parameters == sum(parameter.numel() for parameter in reference("target")[0].parameters())


class RewardEngineContract:
    """A PRM engine. Subclasses give the fixture ``engine``, on the shipped PRM."""

    tolerance = 1e-5

    CANDIDATES = (
        ReceivedText(0, "On Tuesday she uses 18 shells, so Mia now has 38 - 18 = 20 shells.\n\n"),
        ReceivedText(1, "On Tuesday she uses 18 shells, so Mia now has 38 - 18 = 21 shells.\n\n"),
        ReceivedText(2, "On Tuesday she uses\n\n"),
        ReceivedText(3, "The answer is \\boxed{38}"),
    )

    async def test_rewards_are_those_of_a_plain_forward_pass(self, engine: RewardEngine) -> None:
        """As for Qwen2.5-Math-PRM, each step ends with <extra_0>, and the reward is read at the last of them."""
        model, tokenizer = reference("prm")
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": PROMPT}], tokenize=False, add_generation_prompt=True
        )
        expected = []
        for candidate in self.CANDIDATES:
            text = prompt + "".join(f"{step.rstrip()}<extra_0>" for step in (*STEPS, candidate.text))
            with torch.inference_mode():
                logits = model(tokenizer(text, return_tensors="pt")["input_ids"]).logits[0, -1]
            expected.append(float(torch.softmax(logits, dim=-1)[1]))
        assert await rate_all(engine, self.CANDIDATES) == pytest.approx(expected, abs=self.tolerance)

    async def test_rewards_lie_between_0_and_1(self, engine: RewardEngine) -> None:
        """A reward is the probability that the step is good."""
        assert all(0 <= reward <= 1 for reward in await rate_all(engine, self.CANDIDATES))

    async def test_a_right_step_is_worth_more_than_a_wrong_one(self, engine: RewardEngine) -> None:
        """The two steps differ in their result alone."""
        right, wrong, *_ = await rate_all(engine, self.CANDIDATES)
        assert right > 0.5 > wrong

    async def test_only_the_last_step_is_judged(self, engine: RewardEngine) -> None:
        """A mistake in an earlier step does not spoil a step that is right by what it says."""
        mistaken = ("On Monday Tom gives her 11 shells, so Mia now has 27 + 11 = 39 shells.\n\n",)
        step = "On Tuesday she uses 18 shells, so Mia now has 39 - 18 = 21 shells.\n\n"
        (reward,) = await rate_all(engine, [ReceivedText(0, step)], steps=mistaken)
        assert reward > 0.5

    async def test_the_model_describes_itself(self, engine: RewardEngine) -> None:
        """A reward's range, and what its passes cost."""
        assert engine.info.has_bounded_rewards
        assert engine.info.num_parameters == sum(parameter.numel() for parameter in reference("prm")[0].parameters())

    async def test_rewards_do_not_depend_on_their_batch(self, engine: RewardEngine) -> None:
        """A candidate has the same reward alone and with others."""
        alone = [(await rate_all(engine, [candidate]))[0] for candidate in self.CANDIDATES]
        assert await rate_all(engine, self.CANDIDATES) == pytest.approx(alone, abs=self.tolerance)

    async def test_a_trajectory_that_does_not_fit_is_refused(self, engine: RewardEngine) -> None:
        """The error names the length of the trajectory and the length allowed."""
        with pytest.raises(InvalidRequestError, match=r"tokens.*allowed: .*51[12]"):
            await rate_all(engine, [ReceivedText(0, "7\n\n" + "7" * 600)])
