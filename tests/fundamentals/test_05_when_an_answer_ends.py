"""Steps are written until the trajectory is finished; the stop reason says why it is."""

from gsi.algorithm.candidates import Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Params, StopRules
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.algorithm.stopping import StopReason
from tests.fundamentals.tiny import GOOD, PRM, START, TINY, TinyModel, TinyPrm


async def forget(made: Round) -> None:
    """A real caller stores the step here."""


async def write(stop: StopRules, ports: Ports = TINY, max_length: int = 1000) -> tuple[Trajectory, StopReason]:
    params = Params(n=4, stop=stop)
    return await generate(START, params, ports, seed=1, keep=forget, max_length=max_length)


async def write_endlessly(stop: StopRules, max_length: int = 1000) -> tuple[str, StopReason]:
    """Let models write that know a single step, and never come to an end."""
    model = TinyModel({GOOD: 1.0})
    answer, reason = await write(stop, Ports(model, model, PRM), max_length)
    return answer.text, reason


async def test_the_end_of_the_sequence_ends_an_answer() -> None:
    """The model itself has nothing more to write."""
    answer, reason = await write(StopRules())
    assert reason is StopReason.EOS
    assert answer.text.endswith("It is \\boxed{5}.")


async def test_an_answer_in_the_text_ends_it() -> None:
    """By default what a model puts in a box; a job may name another pattern."""
    boxed = "So it is \\boxed{5}.\n\n"
    model = TinyModel({boxed: 1.0})
    answer, reason = await write(StopRules(), Ports(model, model, TinyPrm({boxed: 0.9})))
    assert (reason, len(answer.steps)) == (StopReason.ANSWER, 1)


async def test_a_job_may_limit_steps_and_tokens() -> None:
    """A step here is eleven characters, which are its tokens, so three steps are 33."""
    assert await write_endlessly(StopRules(max_steps=3)) == (GOOD * 3, StopReason.MAX_STEPS)
    assert await write_endlessly(StopRules(max_tokens=33)) == (GOOD * 3, StopReason.MAX_TOKENS)


async def test_the_models_context_is_a_limit_too() -> None:
    """Prompt and answer have to fit into it."""
    room = len(START.token_ids) + 33
    assert await write_endlessly(StopRules(), max_length=room) == (GOOD * 3, StopReason.MAX_TOKENS)


async def test_a_job_may_give_up_when_no_candidate_is_worth_it() -> None:
    """The floor is off unless the job sets it."""
    assert await write_endlessly(StopRules(reward_floor=0.85)) == (GOOD, StopReason.LOW_REWARD)
