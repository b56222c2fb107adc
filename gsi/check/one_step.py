"""Lets each service do its part of one step: render, propose, score, rate."""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gsi.algorithm.candidates import Candidate, Message
from gsi.algorithm.params import SamplingParams
from gsi.check.descriptions import Infos, choose_sampling
from gsi.check.findings import Finding, error, good, warning
from gsi.errors import InternalError, InvalidRequestError, MisconfiguredError, RetryableError
from gsi.model_info import ModelInfo
from gsi.rpc.clients import DraftClient, PrmClient, ServiceClient, TargetClient
from gsi.rpc.convert import ReceivedText

NUM_CANDIDATES = 2
STEP_TOKENS = 64
AGREEMENT_NATS = 0.5  # over a step; a bfloat16 engine agrees with itself to about 0.1
SYSTEM_WORD = "periwinkle"  # which no template writes by itself

PROBLEM = "On Sunday Mia has 27 shells. On Monday Tom gives her 11 shells. How many shells does Mia have at the end?"
RIGHT = "On Monday Tom gives her 11 shells, so Mia now has 27 + 11 = 38 shells.\n\n"
WRONG = RIGHT.replace("38", "83")
MESSAGES = (Message("user", PROBLEM),)

REFUSED = (InvalidRequestError, MisconfiguredError, RetryableError, InternalError)

RENDER_ADVICE = (
    "Take a checkpoint with a chat template, or name one by GSI_DRAFT_CHAT_TEMPLATE (and _ARGS for its arguments)."
)
STEP_ADVICE = "Read the service's log; the service cannot do its part of a step as it is."


@dataclass(frozen=True, slots=True)
class Services:
    """The clients of the three services."""

    draft: DraftClient
    target: TargetClient
    prm: PrmClient

    @property
    def clients(self) -> tuple[ServiceClient, ...]:
        return (self.draft, self.target, self.prm)


async def try_one_step(services: Services, infos: Infos) -> AsyncIterator[Finding]:
    """Yield whether a prompt is rendered, and a step proposed, scored and rewarded."""
    draft, target = infos.get("draft"), infos.get("target")
    sampling = choose_sampling(draft, target, STEP_TOKENS) if draft and target else None
    prefix: tuple[int, ...] = ()
    drafted: list[Candidate] = []
    if draft:
        outcome = _Outcome("chat template", RENDER_ADVICE)
        with outcome.watching():
            prefix = await services.draft.render(MESSAGES)
        yield outcome.finding(f"the problem of this check is {len(prefix)} tokens")
    if prefix and draft:
        yield await _look_at_system_role(services.draft)
        yield await _look_at_turn_end(services.draft, draft)
        async for finding in _try_writers(services, prefix, sampling, drafted):
            yield finding
    if "prm" in infos:
        async for finding in _try_prm(services.prm, [candidate.text for candidate in drafted]):
            yield finding


class _Outcome:
    """Whether a call worked, how long it took, and what its error says."""

    def __init__(self, subject: str, advice: str = STEP_ADVICE) -> None:
        self._subject = subject
        self._advice = advice
        self._error: Exception | None = None
        self.seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        except REFUSED as refusal:
            self._error = refusal
        self.seconds = time.perf_counter() - began

    @property
    def has_worked(self) -> bool:
        return self._error is None

    def finding(self, text: str) -> Finding:
        """Return what the call found; ``text`` says it if the call worked."""
        if self._error is not None:
            return error(self._subject, str(self._error), self._advice)
        return good(self._subject, text)


async def _look_at_system_role(draft: DraftClient) -> Finding:
    outcome = _Outcome("system role", RENDER_ADVICE)
    text = ""
    with outcome.watching():
        _, text = await draft.render_with_text((Message("system", f"Say {SYSTEM_WORD}."), *MESSAGES))
    if outcome.has_worked and SYSTEM_WORD not in text:
        return warning(
            "system role", "the chat template drops what the system says", "Put it into the prompt of each job."
        )
    return outcome.finding("a job's system message reaches the model")


async def _look_at_turn_end(draft: DraftClient, info: ModelInfo) -> Finding:
    """Say whether the template ends an answer as the model is expected to: the next question comes behind it."""
    try:
        rendered = await draft.render((*MESSAGES, Message("assistant", "7"), *MESSAGES))
    except REFUSED:
        return good("end of a turn", "the chat template takes no earlier answers, which jobs do not have")
    if info.eos_token_ids and not set(info.eos_token_ids) & set(rendered):
        return warning(
            "end of a turn",
            "the chat template ends an answer with none of the draft's end tokens: answers may go on and on",
            "Add the token that the template writes behind an answer to eos_token_id in generation_config.json.",
        )
    return good("end of a turn", "the chat template ends an answer with an end token")


async def _try_writers(
    services: Services, prefix: tuple[int, ...], sampling: SamplingParams | None, drafted: list[Candidate]
) -> AsyncIterator[Finding]:
    """Yield whether draft and target propose, and whether the target scores; put the draft's candidates into a list."""
    if sampling is None:
        return
    outcome = _Outcome("draft proposes")
    with outcome.watching():
        drafted += await _collect(services.draft.propose(prefix, NUM_CANDIDATES, sampling, 0))
    yield outcome.finding(_say_proposal(drafted, outcome.seconds))
    if drafted:
        outcome, values = _Outcome("target scores"), list[float]()
        with outcome.watching():
            values = await _score(services.target, prefix, sampling, drafted)
        yield outcome.finding(f"log-likelihoods {_list(values)} nats in {outcome.seconds:.2f} s")
    own: list[Candidate] = []
    outcome = _Outcome("target proposes")
    with outcome.watching():
        own = await _collect(services.target.propose(prefix, NUM_CANDIDATES, sampling, 0))
        values = await _score(services.target, prefix, sampling, own)
    yield outcome.finding(_say_proposal(own, outcome.seconds))
    if own and outcome.has_worked:
        yield _compare(own, values)


def _compare(own: Sequence[Candidate], scored: Sequence[float]) -> Finding:
    """Say whether the target scores its own candidates as it wrote them."""
    gap = max(abs(candidate.log_likelihood - value) for candidate, value in zip(own, scored, strict=True))
    if not gap <= AGREEMENT_NATS:
        return error(
            "target agrees",
            f"the target scores its own step {gap:.2f} nats away from what it wrote: its likelihoods cannot be used",
            "Change the engine's settings one by one (dtype, attention, quantisation) until it agrees with itself.",
        )
    return good("target agrees", f"it scores its own step within {gap:.1e} nats of what it wrote")


def _say_proposal(candidates: Sequence[Candidate], seconds: float) -> str:
    num_tokens = sum(len(candidate.token_ids) for candidate in candidates)
    return f"{len(candidates)} candidates of {num_tokens} tokens together in {seconds:.2f} s"


async def _try_prm(prm: PrmClient, drafted: Sequence[str]) -> AsyncIterator[Finding]:
    """Yield whether the PRM rates steps, and a right step above a wrong one."""
    outcome, rewards = _Outcome("prm rewards"), list[float]()
    with outcome.watching():
        rewards = await _rate(prm, [RIGHT, WRONG, *drafted])
    yield outcome.finding(f"rewards of {len(rewards)} steps in {outcome.seconds:.2f} s")
    if not rewards:
        return
    right, wrong = rewards[:2]
    said = f"{right:.3g} for a right step, {wrong:.3g} for the same step with a wrong result"
    if right > wrong:
        yield good("prm judges", said)
    else:
        yield warning(
            "prm judges",
            said,
            "Try it on problems of your kind before you trust it; is its checkpoint read as its authors read it?",
        )


async def _rate(prm: PrmClient, texts: Sequence[str]) -> list[float]:
    async def send() -> AsyncGenerator[Sequence[ReceivedText], None]:
        yield [ReceivedText(index, text) for index, text in enumerate(texts)]

    return _in_order(await _collect(prm.score(MESSAGES, (), send())))


async def _score(
    target: TargetClient, prefix: Sequence[int], sampling: SamplingParams, candidates: Sequence[Candidate]
) -> list[float]:
    async def send() -> AsyncGenerator[Sequence[Candidate], None]:
        yield candidates

    return _in_order(await _collect(target.score(prefix, sampling, send())))


async def _collect(batches: AsyncGenerator[Sequence[Any], None]) -> list[Any]:
    """Return all that a call yields, in the order of the candidates."""
    return sorted([one async for batch in batches for one in batch], key=lambda one: int(one.index))


def _in_order(scores: Sequence[Any]) -> list[float]:
    return [float(score.value) for score in scores]


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)
