"""Messages of ``gsi.v1`` to dataclasses and back. No other module knows the fields of both."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import LabelProbabilities, StepText, TokenSequence
from gsi.errors import InvalidRequestError
from gsi.limits import (
    MAX_LABELS,
    MAX_MESSAGES,
    MAX_QUESTION_CHARACTERS,
    MAX_REQUEST_CANDIDATES,
    MAX_TEMPERATURE,
    MAX_TEXT_CHARACTERS,
    MIN_TEMPERATURE,
)
from gsi.model_info import ModelInfo
from gsi.v1 import candidates_pb2, prm_pb2, target_pb2

ROLES = ("system", "user", "assistant")
MODEL_KEY = "gsi-model-bin"  # metadata in front of each answer of a service: its ModelInfo
ROOM_KEY = "gsi-calls"  # and how many calls it serves at this moment, of how many at most: 12/256

_LIKELIHOODS = {
    Likelihood.SAMPLING: candidates_pb2.LIKELIHOOD_SAMPLING,
    Likelihood.MODEL: candidates_pb2.LIKELIHOOD_MODEL,
}
_FINISH_REASONS = {
    FinishReason.DELIMITER: candidates_pb2.FINISH_REASON_DELIMITER,
    FinishReason.EOS: candidates_pb2.FINISH_REASON_EOS,
    FinishReason.LENGTH: candidates_pb2.FINISH_REASON_LENGTH,
}
_LIKELIHOOD_OF = {value: key for key, value in _LIKELIHOODS.items()}
_FINISH_REASON_OF = {value: key for key, value in _FINISH_REASONS.items()}


@dataclass(frozen=True, slots=True)
class ReceivedTokens:
    """A candidate that the target's ``Score`` has received."""

    index: int
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReceivedText:
    """A candidate that the PRM's ``Score`` has received."""

    index: int
    text: str


def sampling_to_proto(sampling: SamplingParams) -> candidates_pb2.SamplingParams:
    return candidates_pb2.SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_step_tokens=sampling.max_step_tokens,
        likelihood=_LIKELIHOODS[sampling.likelihood],
    )


def sampling_from_proto(message: candidates_pb2.SamplingParams) -> SamplingParams:
    """Read sampling parameters. Raises InvalidRequestError that names the field and the values allowed."""
    if message.temperature != 0 and not MIN_TEMPERATURE <= message.temperature <= MAX_TEMPERATURE:
        raise InvalidRequestError(
            f"sampling.temperature is {message.temperature}; "
            f"allowed: 0 for greedy, or {MIN_TEMPERATURE} to {MAX_TEMPERATURE}"
        )
    if not 0 < message.top_p <= 1:
        raise InvalidRequestError(f"sampling.top_p is {message.top_p}; allowed: above 0, at most 1")
    if message.max_step_tokens < 1:
        raise InvalidRequestError(f"sampling.max_step_tokens is {message.max_step_tokens}; allowed: at least 1")
    if message.likelihood not in _LIKELIHOOD_OF:
        raise InvalidRequestError("sampling.likelihood is not set; allowed: LIKELIHOOD_SAMPLING, LIKELIHOOD_MODEL")
    return SamplingParams(
        temperature=message.temperature,
        top_p=message.top_p,
        max_step_tokens=message.max_step_tokens,
        likelihood=_LIKELIHOOD_OF[message.likelihood],
    )


def candidate_to_proto(candidate: Candidate) -> candidates_pb2.Candidate:
    return candidates_pb2.Candidate(
        index=candidate.index,
        token_ids=candidate.token_ids,
        text=candidate.text,
        log_likelihood=candidate.log_likelihood,
        finish_reason=_FINISH_REASONS[candidate.finish_reason],
    )


def candidate_from_proto(message: candidates_pb2.Candidate) -> Candidate:
    return Candidate(
        index=message.index,
        token_ids=tuple(message.token_ids),
        text=message.text,
        log_likelihood=message.log_likelihood,
        finish_reason=_FINISH_REASON_OF[message.finish_reason],
    )


def scores_to_proto(scores: Sequence[Score]) -> candidates_pb2.ScoreResponse:
    return candidates_pb2.ScoreResponse(
        indices=[score.index for score in scores], values=[score.value for score in scores]
    )


def scores_from_proto(message: candidates_pb2.ScoreResponse) -> list[Score]:
    return [Score(index, value) for index, value in zip(message.indices, message.values, strict=True)]


def tokens_to_proto(candidates: Sequence[TokenSequence]) -> target_pb2.TargetScoreCandidates:
    return target_pb2.TargetScoreCandidates(
        sequences=[target_pb2.TokenSequence(index=c.index, token_ids=c.token_ids) for c in candidates]
    )


def tokens_from_proto(message: target_pb2.TargetScoreCandidates, max_tokens: int) -> list[ReceivedTokens]:
    """Read the candidates to score. Raises InvalidRequestError if there are none, or one has no or too many tokens."""
    _check_number(len(message.sequences), "candidates.sequences")
    for sequence in message.sequences:
        if not 1 <= len(sequence.token_ids) <= max_tokens:
            raise InvalidRequestError(
                f"candidate {sequence.index} has {len(sequence.token_ids)} token_ids; allowed: 1 to {max_tokens}"
            )
    return [ReceivedTokens(sequence.index, tuple(sequence.token_ids)) for sequence in message.sequences]


def texts_to_proto(candidates: Sequence[StepText]) -> prm_pb2.PrmScoreCandidates:
    return prm_pb2.PrmScoreCandidates(texts=[prm_pb2.StepText(index=c.index, text=c.text) for c in candidates])


def texts_from_proto(message: prm_pb2.PrmScoreCandidates) -> list[ReceivedText]:
    """Read the candidates to rate. Raises InvalidRequestError if there are none, or too much text."""
    _check_number(len(message.texts), "candidates.texts")
    check_text("candidates.texts", (text.text for text in message.texts))
    return [ReceivedText(text.index, text.text) for text in message.texts]


def _check_number(num_candidates: int, field: str) -> None:
    if not 1 <= num_candidates <= MAX_REQUEST_CANDIDATES:
        raise InvalidRequestError(f"{field} has {num_candidates} candidates; allowed: 1 to {MAX_REQUEST_CANDIDATES}")


def check_text(field: str, texts: Iterable[str]) -> None:
    """Raise InvalidRequestError if the texts of a request are more than a tokenizer can be asked for."""
    num_characters = sum(map(len, texts))
    if num_characters > MAX_TEXT_CHARACTERS:
        raise InvalidRequestError(
            f"{field} has {num_characters} characters; allowed: at most {MAX_TEXT_CHARACTERS}, all texts together"
        )


def messages_to_proto(messages: Sequence[Message]) -> list[candidates_pb2.ChatMessage]:
    return [candidates_pb2.ChatMessage(role=message.role, content=message.content) for message in messages]


def messages_from_proto(messages: Sequence[candidates_pb2.ChatMessage]) -> tuple[Message, ...]:
    """Read a conversation. Raises InvalidRequestError if it is empty, too long, or a role is unknown."""
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise InvalidRequestError(f"messages has {len(messages)} messages; allowed: 1 to {MAX_MESSAGES}")
    check_text("messages", (message.content for message in messages))
    for message in messages:
        if message.role not in ROLES:
            raise InvalidRequestError(f"messages.role is {message.role[:20]!r}; allowed: {', '.join(ROLES)}")
    return tuple(Message(message.role, message.content) for message in messages)


def conversation_from_proto(
    header: prm_pb2.PrmScoreHeader, max_steps: int
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """Read a conversation and its kept steps. Raises InvalidRequestError if there is too much of them."""
    if len(header.steps) > max_steps:
        raise InvalidRequestError(f"steps has {len(header.steps)} steps; allowed: at most {max_steps}")
    check_text("messages and steps", (*(message.content for message in header.messages), *header.steps))
    return messages_from_proto(header.messages), tuple(header.steps)


def question_to_proto(prefix: Sequence[int], question: Question) -> candidates_pb2.JudgeRequest:
    return candidates_pb2.JudgeRequest(
        prefix_token_ids=prefix, question=question.text, opening=question.opening, labels=question.labels
    )


def question_from_proto(message: candidates_pb2.JudgeRequest) -> Question:
    """Read a question. Raises InvalidRequestError if it has no label, too many, two equal ones, or too much text."""
    labels = tuple(message.labels)
    if not 1 <= len(labels) <= MAX_LABELS:
        raise InvalidRequestError(f"labels has {len(labels)} labels; allowed: 1 to {MAX_LABELS}")
    if len(set(labels)) < len(labels):
        raise InvalidRequestError(f"labels has {len(labels)} labels, of which two are equal; allowed: different ones")
    for field, text in (("question", message.question), ("opening", message.opening), ("labels", "".join(labels))):
        if len(text) > MAX_QUESTION_CHARACTERS:
            raise InvalidRequestError(f"{field} has {len(text)} characters; allowed: at most {MAX_QUESTION_CHARACTERS}")
    return Question(message.question, message.opening, labels)


def probabilities_to_proto(found: LabelProbabilities) -> candidates_pb2.JudgeResponse:
    return candidates_pb2.JudgeResponse(probabilities=found.values, num_tokens=found.num_tokens)


def probabilities_from_proto(message: candidates_pb2.JudgeResponse, num_labels: int) -> LabelProbabilities:
    """Read a judge's answer. Raises RuntimeError unless it has a probability for each label."""
    if len(message.probabilities) != num_labels:
        raise RuntimeError(f"{num_labels} labels must have a probability each; got {len(message.probabilities)}")
    return LabelProbabilities(tuple(message.probabilities), message.num_tokens)


def info_to_proto(info: ModelInfo) -> candidates_pb2.ModelInfo:
    return candidates_pb2.ModelInfo(
        model=info.model,
        revision=info.revision,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
        vocabulary_size=info.vocabulary_size,
        max_length=info.max_length,
        eos_token_ids=info.eos_token_ids,
        step_delimiter_token_ids=info.step_delimiter_token_ids,
        likelihoods=[_LIKELIHOODS[likelihood] for likelihood in info.likelihoods],
        engine=info.engine,
        engine_version=info.engine_version,
        temperature=info.temperature or 0.0,
        num_parameters=info.num_parameters or 0,
        has_bounded_rewards=info.has_bounded_rewards,
        num_speculative_tokens=info.num_speculative_tokens,
        dtype=info.dtype,
        checkpoint_fingerprint=info.checkpoint_fingerprint,
        reading=info.reading,
        profile=info.profile,
        can_judge=info.can_judge,
    )


def info_from_proto(message: candidates_pb2.ModelInfo) -> ModelInfo:
    return ModelInfo(
        model=message.model,
        revision=message.revision,
        tokenizer_fingerprint=message.tokenizer_fingerprint,
        vocabulary_size=message.vocabulary_size,
        max_length=message.max_length,
        eos_token_ids=tuple(message.eos_token_ids),
        step_delimiter_token_ids=tuple(message.step_delimiter_token_ids),
        likelihoods=tuple(_LIKELIHOOD_OF[likelihood] for likelihood in message.likelihoods),
        engine=message.engine,
        engine_version=message.engine_version,
        temperature=message.temperature or None,
        num_parameters=message.num_parameters or None,
        has_bounded_rewards=message.has_bounded_rewards,
        num_speculative_tokens=message.num_speculative_tokens,
        dtype=message.dtype,
        checkpoint_fingerprint=message.checkpoint_fingerprint,
        reading=message.reading,
        profile=message.profile,
        can_judge=message.can_judge,
    )


def info_to_metadata(info: ModelInfo) -> tuple[tuple[str, bytes], ...]:
    """Return the metadata by which a service describes its model in front of an answer."""
    return ((MODEL_KEY, info_to_proto(info).SerializeToString()),)


def room_to_metadata(num_calls: int, max_calls: int) -> tuple[tuple[str, str], ...]:
    """Return the metadata by which a service says how much it has to do."""
    return ((ROOM_KEY, f"{num_calls}/{max_calls}"),)


def busy_share_from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> float:
    """Return the share of its calls at once that the answering replica serves; 1 if it does not say so."""
    told = next((value for key, value in metadata or () if key == ROOM_KEY), None)
    num_calls, _, max_calls = told.partition("/") if isinstance(told, str) else ("", "", "")
    if not (num_calls.isdecimal() and max_calls.isdecimal() and int(max_calls)):
        return 1.0
    return int(num_calls) / int(max_calls)


def info_from_metadata(metadata: Iterable[tuple[str, str | bytes]] | None) -> ModelInfo | None:
    """Return the model of the replica that answers; None if the metadata does not name it."""
    told = next((value for key, value in metadata or () if key == MODEL_KEY), None)
    return _info_from_bytes(told) if isinstance(told, bytes) else None


@lru_cache(maxsize=64)  # each call of a replica tells the same
def _info_from_bytes(told: bytes) -> ModelInfo:
    return info_from_proto(candidates_pb2.ModelInfo.FromString(told))
