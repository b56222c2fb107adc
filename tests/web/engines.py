"""Models that write what they are told, with candidates that differ and steps that are rejected.

As ``tests/gateway/engines.py``: an answer's steps stand in the last message of the user, between bars. Beyond that:

- ``~Text`` takes a while;
- ``!Text`` is written wrong by the draft (``Wrong: Text``, reward 0.1), so that the target writes it again;
- ``{one/two (0.7)/three}`` are alternatives: candidate i has the i-th, and ``(0.7)`` in a candidate is its reward;
- ``(nan)`` is a candidate that the PRM cannot rate, ``(never)`` one that the target would never write.
"""

import asyncio
import math
import re
from collections.abc import Sequence

from benchmarks.no_op_engines import Judge
from gsi.algorithm.candidates import Candidate, FinishReason, Message, Score
from gsi.algorithm.judging import Question
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches, LabelProbabilities, ScoreBatches, TextBatches, TokenBatches
from tests.gateway.engines import END_OF_PROMPT, END_OF_STEP, SLOW_SECONDS, Scripted

WRONG, WRONG_REWARD = "Wrong: ", 0.1
GOOD_REWARD = 0.9
MARKS = re.compile(r"^[~!]*")
ALTERNATIVES = re.compile(r"\{([^{}]*/[^{}]*)\}")
REWARD = re.compile(r"\((0\.\d+|1\.0|nan)\)")
NEVER = b"(never)"


class Writer(Scripted):
    """Writes the steps of the prompt. ``is_draft``: whether it writes the marked ones wrong."""

    def __init__(self, *, is_draft: bool) -> None:
        self._is_draft = is_draft

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        end = list(prefix).index(END_OF_PROMPT)
        steps = bytes(prefix[:end]).decode().rpartition("user: ")[2].split("|")
        place = min(list(prefix).count(END_OF_STEP), len(steps) - 1)
        marks = MARKS.match(steps[place])
        assert marks  # it matches everything
        await asyncio.sleep(SLOW_SECONDS * marks[0].count("~"))
        start = WRONG if self._is_draft and "!" in marks[0] else ""
        reason = FinishReason.EOS if place == len(steps) - 1 else FinishReason.DELIMITER
        yield [_candidate(index, start + _choose(steps[place][marks.end() :], index), reason) for index in range(n)]

    async def score(self, prefix: Sequence[int], sampling: SamplingParams, candidates: TokenBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(each.index, _log_likelihood(each.token_ids) + _ratio(each.token_ids)) for each in batch]

    async def judge(self, prefix: Sequence[int], question: Question) -> LabelProbabilities:
        """Say the highest label of a step, and of a wrong one rather the lowest."""
        written = list(prefix[:-1])  # the last token ends the step
        begin = max(place for place, token in enumerate(written) if token >= END_OF_PROMPT) + 1
        least = 0.75 if bytes(written[begin:]).startswith(WRONG.encode()) else 0.0
        return LabelProbabilities((least, *(0.0 for _ in question.labels[2:]), 1 - least), 5)


class Rater(Judge):
    """Rates a text as it says itself."""

    async def score(self, messages: Sequence[Message], steps: Sequence[str], candidates: TextBatches) -> ScoreBatches:
        async for batch in candidates:
            yield [Score(each.index, _rate(each.text)) for each in batch]


ENGINES = {
    "draft": lambda: Writer(is_draft=True),
    "target": lambda: Writer(is_draft=False),
    "prm": Rater,
}


def _choose(text: str, index: int) -> str:
    def choose(found: re.Match[str]) -> str:
        alternatives = found[1].split("/")
        return alternatives[index % len(alternatives)]

    return ALTERNATIVES.sub(choose, text)


def _candidate(index: int, text: str, reason: FinishReason) -> Candidate:
    token_ids = (*text.encode(), END_OF_STEP)
    return Candidate(index, token_ids, text, _log_likelihood(token_ids), reason)


def _log_likelihood(token_ids: Sequence[int]) -> float:
    return -0.3 * len(token_ids)


def _ratio(token_ids: Sequence[int]) -> float:
    """Return a log-ratio of target and draft between -1.2 and 1.2 nats, which depends on the text alone; or -inf."""
    if NEVER in bytes(token_ids[:-1]):
        return -math.inf
    return (sum(token_ids) % 7 - 3) * 0.4


def _rate(text: str) -> float:
    told = REWARD.search(text)
    return float(told[1]) if told else WRONG_REWARD if text.startswith(WRONG) else GOOD_REWARD
