"""A draft or target model on Hugging Face transformers: the default, and the reference for other engines."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache

import torch
import transformers
from transformers import AutoModelForCausalLM

from gsi.algorithm.candidates import Message, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TokenBatches, TokenSequence
from gsi.engines.base import (
    SAME_AS_MODEL,
    STEP_DELIMITER,
    EngineSettings,
    check_candidates,
    check_likelihood,
    wait_forever,
)
from gsi.engines.hugging_face.fingerprint import fingerprint_checkpoint
from gsi.engines.hugging_face.judging import AskedPrefix, QuestionWriter
from gsi.engines.hugging_face.parameter_count import count_parameters
from gsi.engines.hugging_face.tokenizer import Tokenizer
from gsi.engines.on_transformers.checkpoint import load_checkpoint
from gsi.engines.on_transformers.last_layer import hide_padding, widen
from gsi.engines.on_transformers.model_thread import Work
from gsi.engines.on_transformers.prefix import Prefix, Tensor, TokenIds
from gsi.engines.on_transformers.prefix_model import PrefixModel
from gsi.engines.on_transformers.proposal import SamplingBatch
from gsi.engines.on_transformers.sampling import likelihood_law
from gsi.errors import MisconfiguredError
from gsi.model_info import ModelInfo


class TransformersEngine:
    """Samples n candidates side by side and scores given candidates; reads what no kept prefix begins with."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, model: PrefixModel) -> None:
        self.info = info
        self._tokenizer = tokenizer
        self._model = model
        self._questions = QuestionWriter(
            self._tokenizer, self.info.max_length, self._model.vocabulary_size, self.info.eos_token_ids
        )
        self._decode_token = lru_cache(maxsize=None)(lambda token_id: self._tokenizer.decode([token_id]))

    @classmethod
    async def load(cls, settings: EngineSettings) -> "TransformersEngine":
        return await asyncio.to_thread(cls._load, settings)

    @classmethod
    def _load(cls, settings: EngineSettings) -> "TransformersEngine":
        refuse_engine_args(settings)
        tokenizer = Tokenizer.load(settings)
        checkpoint = load_checkpoint(AutoModelForCausalLM, settings)
        info = describe_checkpoint(settings, checkpoint, tokenizer, tuple(Likelihood))
        if settings.head_dtype != SAME_AS_MODEL:
            widen(checkpoint, getattr(torch, settings.head_dtype))
        model = PrefixModel(checkpoint, info.max_length, settings)
        model.vocabulary_size = hide_padding(checkpoint, tokenizer.num_ids)
        return cls(info, tokenizer, model)

    async def wait_until_dead(self) -> str:
        return await wait_forever()

    def close(self) -> None:
        self._model.close()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        return self._tokenizer.render(messages)

    def show(self, token_ids: Sequence[int]) -> str:
        return self._tokenizer.show(token_ids)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        batch = SamplingBatch(self._model, n, sampling, seed, self.info.eos_token_ids, self._decode)
        with closing(batch):
            yield await self._model.run(batch.begin(prefix))
            while not batch.is_finished:
                yield await self._model.run(batch.go_on())

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        check_likelihood(sampling)
        read = await self._model.read_prefix(prefix)
        limits = (len(prefix), self._model.max_length, self._model.vocabulary_size)
        async for batch in check_candidates(candidates, *limits):
            for together in self._model.split(batch):
                values = await self._score_together(read, sampling, together)
                yield [Score(candidate.index, value) for candidate, value in zip(together, values, strict=True)]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        asked = await self._questions.ask(prefix, question)
        return asked.read(await self._model.run(self._read_labels(prefix, asked)))

    def _read_labels(self, prefix: Sequence[int], asked: AskedPrefix) -> Work[list[float]]:
        """Return the logit of each label. The prefix is kept for the next step, the question is not."""
        read = yield from self._model.read(prefix)
        outputs = yield from self._model.read_behind(read, asked.token_ids[len(prefix) :])
        values: list[float] = self._model.head(outputs)[list(asked.label_ids)].double().tolist()
        return values

    async def _score_together(
        self, prefix: Prefix, sampling: SamplingParams, candidates: Sequence[TokenSequence]
    ) -> list[float]:
        """Return the log-likelihood (nats) of each candidate."""
        return await self._model.run(self._sum_log_probabilities(prefix, sampling, candidates))

    def _sum_log_probabilities(
        self, prefix: Prefix, sampling: SamplingParams, candidates: Sequence[TokenSequence]
    ) -> Work[list[float]]:
        """Return the log-likelihood (nats) of each candidate, from one forward pass over those that differ."""
        rows = list(dict.fromkeys(candidate.token_ids for candidate in candidates))
        outputs = prefix.last_outputs.expand(len(rows), 1, -1)
        if max(map(len, rows)) > 1:  # the last token of a candidate is predicted, not read
            read = yield from self._model.continue_rows(prefix.cache(len(rows)), [row[:-1] for row in rows])
            outputs = torch.cat([outputs, read], dim=1)
        sums = {row: self._sum_row(row, of_row, sampling) for row, of_row in zip(rows, outputs, strict=True)}
        return [sums[candidate.token_ids] for candidate in candidates]

    def _sum_row(self, row: TokenIds, outputs: Tensor, sampling: SamplingParams) -> float:
        """Return a candidate's log-likelihood from the outputs [places, outputs] at each place before its tokens.

        Row by row, or the logits in double precision would fill the memory.
        """
        law = likelihood_law(self._model.head(outputs[: len(row)]), sampling)
        return float(law[range(len(row)), list(row)].sum())

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._decode_token(token_ids[0]) if len(token_ids) == 1 else self._tokenizer.decode(token_ids)


def refuse_engine_args(settings: EngineSettings) -> None:
    """Raise MisconfiguredError if engine arguments are given: this engine has none."""
    if settings.engine_args:
        raise MisconfiguredError(
            f"engine_args: {settings.engine_args}; allowed: none, the transformers engine has none"
        )


def describe_checkpoint(
    settings: EngineSettings,
    model: transformers.PreTrainedModel,
    tokenizer: Tokenizer,
    likelihoods: tuple[Likelihood, ...],
) -> ModelInfo:
    """Describe a loaded checkpoint."""
    generation_config = getattr(model, "generation_config", None)
    eos = (getattr(generation_config, "eos_token_id", None), getattr(model.config, "eos_token_id", None))
    return ModelInfo(
        model=settings.model,
        revision=getattr(model.config, "_commit_hash", None) or "local",
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocabulary_size=tokenizer.size,
        max_length=model.config.max_position_embeddings,
        eos_token_ids=tokenizer.choose_end(*eos),
        step_delimiter_token_ids=tokenizer.encode(STEP_DELIMITER),
        likelihoods=likelihoods,
        can_judge=bool(likelihoods),
        engine="transformers",
        engine_version=transformers.__version__,
        num_parameters=count_parameters(model),
        dtype=str(next(model.parameters()).dtype).removeprefix("torch."),
        checkpoint_fingerprint=fingerprint_checkpoint(settings.model, settings.revision),
    )
