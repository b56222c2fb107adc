"""Every random number is derived from what it is for, so an interrupted job ends as if nothing had happened."""

import math
from dataclasses import replace

from gsi.algorithm.candidates import Step, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.methods.gsi import run_step
from gsi.algorithm.params import Params, StopRules
from gsi.algorithm.round import Round
from gsi.algorithm.seeds import derive_seed, uniform
from gsi.jobs.step_record import StepRecord
from tests.fundamentals.tiny import BAD, GOOD, START, TINY, TinyModel, TinyPrm

UNRATED = {GOOD: 0.8, BAD: math.nan}
PARAMS = Params(n=2, beta=1.0, stop=StopRules(max_steps=6))


async def write(start: Trajectory, seed: int, checkpoint: list[Step]) -> Trajectory:
    """Write the answer to its end; keep every step in ``checkpoint`` before the next is begun."""

    async def keep(made: Round) -> None:
        checkpoint.append(made.step)

    answer, _ = await generate(start, PARAMS, TINY, seed, keep=keep, max_length=1000)
    return answer


def test_a_seed_is_a_hash_of_job_step_phase_and_candidate() -> None:
    """It depends on these and on nothing that happened before."""
    assert derive_seed(7, 0, "draft") == derive_seed(7, 0, "draft")
    assert len({derive_seed(7, 0, "draft"), derive_seed(7, 1, "draft"), derive_seed(7, 0, "target")}) == 3
    assert 0 <= uniform(7, 0, "draft", "select") < 1


async def test_the_same_seed_writes_the_same_answer() -> None:
    """And another seed may write another."""
    assert await write(START, 1, []) == await write(START, 1, [])
    assert len({(await write(START, seed, [])).text for seed in range(20)}) > 1


async def test_a_job_resumed_from_its_kept_steps_writes_the_same_answer() -> None:
    """Wherever it was interrupted: only the step in flight is made again."""
    checkpoint: list[Step] = []
    whole = await write(START, 4, checkpoint)
    for num_kept in range(len(checkpoint) + 1):
        assert await write(START.extend(*checkpoint[:num_kept]), 4, []) == whole


async def test_a_kept_step_comes_back_from_its_checkpoint_as_it_was() -> None:
    """A step is stored as JSON, with its likelihoods and what was rejected for it."""
    step = (await run_step(START, Params(n=4, acceptance_threshold=0.99), TINY, seed=1)).step
    assert step.rejected is not None
    assert stored_and_read(step) == step


async def test_numbers_that_json_does_not_have_come_back_from_a_checkpoint() -> None:
    """Here the draft writes what the target never would, and the PRM has no reward for it: -inf and NaN."""
    ports = replace(TINY, draft=TinyModel({BAD: 1.0}), target=TinyModel({GOOD: 1.0}), prm=TinyPrm(UNRATED))
    read = stored_and_read((await run_step(START, Params(n=2), ports, seed=1)).step)
    assert read.rejected is not None
    assert math.isnan(read.rejected.reward)
    assert (read.rejected.tilted_reward, read.rejected.log_likelihood_target) == (-math.inf, -math.inf)


def stored_and_read(step: Step) -> Step:
    record = StepRecord.from_step(step, draft_tokens=4, target_tokens=4, seconds=0.1)
    return StepRecord.from_json(record.to_json()).to_step()
