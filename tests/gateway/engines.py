"""Models that write what they are told: an answer's steps stand in the last message of the user, between bars.

``First. |~Second. |Third.`` is an answer of three steps, the second of which takes a while; every candidate is alike.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from benchmarks.no_op_engines import Together
from gsi.algorithm.candidates import Candidate, FinishReason, Message
from gsi.algorithm.params import SamplingParams
from gsi.algorithm.ports import CandidateBatches
from gsi.errors import InvalidRequestError

END_OF_PROMPT, END_OF_STEP = 256, 257  # behind all bytes
SLOW = "~"
SLOW_SECONDS = 0.6
UNREADABLE = "unreadable"


class Scripted(Together):
    """A language model whose prefix says what it writes. ``asked`` counts its proposals, by what the user said."""

    asked: ClassVar[Counter[str]] = Counter()

    def render(self, messages: Sequence[Message]) -> tuple[int, ...]:
        if messages[-1].content == UNREADABLE:
            raise InvalidRequestError("messages do not fit the model's chat template: unreadable")
        turns = "\n".join(f"{message.role}: {message.content}" for message in messages)
        return (*turns.encode(), END_OF_PROMPT)

    async def propose(self, prefix: Sequence[int], n: int, sampling: SamplingParams, seed: int) -> CandidateBatches:
        prompt = bytes(prefix[: list(prefix).index(END_OF_PROMPT)]).decode()
        said = prompt.rpartition("user: ")[2]
        self.asked[said] += 1
        steps = said.split("|")
        step = steps[min(list(prefix).count(END_OF_STEP), len(steps) - 1)]
        if step.startswith(SLOW):
            await asyncio.sleep(SLOW_SECONDS)
        text = prompt if step == "repeat" else step.removeprefix(SLOW)
        is_last = list(prefix).count(END_OF_STEP) >= len(steps) - 1
        reason = FinishReason.EOS if is_last else FinishReason.DELIMITER
        token_ids = (*text.encode(), END_OF_STEP)
        yield [Candidate(index, token_ids, text, -float(len(token_ids)), reason) for index in range(n)]
