"""The prompts by which a language model judges a step, and how the probabilities of their labels make a score.

A prompt asks for one token, a label, and each label stands for a number: SpecReason's utility score from 0 to 9
(SpecReason, section 4.1). The texts are this project's own, since the models of a job decide how well one works.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Question:
    """A question about the step at the end of a prefix, in one further turn of the user.

    ``opening`` is how the answer begins; one of the ``labels`` follows. Without ``text`` there is no further turn.
    """

    text: str
    opening: str
    labels: tuple[str, ...]


class JudgePrompt(StrEnum):
    """A question with the number of each of its labels."""

    SCORE = "score"  # 0 to 9, as in SpecReason
    VERDICT = "verdict"  # 1: right, 0: wrong; a constrained decision, as ConfSpec describes step verification

    @property
    def question(self) -> Question:
        return _QUESTIONS[self]

    @property
    def values(self) -> tuple[float, ...]:
        """The number of each label, in the order of the labels."""
        return tuple(map(float, self.question.labels))

    @property
    def threshold(self) -> float:
        """The least score of a step that is kept, unless a job names its own."""
        return _THRESHOLDS[self]


class JudgeScore(StrEnum):
    """How the probabilities of the labels make a score."""

    LIKELIEST = "likeliest"  # the number of the likeliest label: the token that greedy decoding would write
    MEAN = "mean"  # the mean of the numbers, weighted by the probabilities


_QUESTIONS = {
    JudgePrompt.SCORE: Question(
        "Look only at the last step. Is it correct, and does it follow from the steps before it? Score it from 0 to 9.",
        "Score: ",
        tuple("0123456789"),
    ),
    JudgePrompt.VERDICT: Question(
        "Look only at the last step. Is it correct, and does it follow from the steps before it? Write 1 for yes, 0 "
        "for no.",
        "Verdict: ",
        ("0", "1"),
    ),
}
_THRESHOLDS = {
    JudgePrompt.SCORE: 7.0,  # SpecReason's default
    JudgePrompt.VERDICT: 0.5,
}


def score(probabilities: Sequence[float], values: Sequence[float], how: JudgeScore) -> float:
    """Return the score that the labels' probabilities make; of equally likely labels the first counts."""
    if how is JudgeScore.LIKELIEST:
        return values[probabilities.index(max(probabilities))]
    return sum(p * value for p, value in zip(probabilities, values, strict=True)) / sum(probabilities)


def confidence(probabilities: Sequence[float], values: Sequence[float], threshold: float) -> float:
    """Return the probability of a label whose number reaches the threshold: that the judge would keep the step."""
    kept = sum(p for p, value in zip(probabilities, values, strict=True) if value >= threshold)
    return kept / sum(probabilities)
