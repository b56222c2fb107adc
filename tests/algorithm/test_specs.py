"""SPECS: who writes, and the law of what is kept (Cemri et al., arXiv 2506.15733).

The abstract: candidates of "a smaller, faster model" are evaluated with "both the reasoning model and the reward model"
("reward-guided soft verification"), with "a dynamic switching mechanism to defer to the larger model on harder steps".
"""

import math
from dataclasses import replace

import pytest

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods.specs import choose_writer, run_step
from gsi.algorithm.params import Params, StopRules
from tests.algorithm import exact
from tests.algorithm.draws import LEAST_P, p_value
from tests.algorithm.searching import UNREAD, trajectory, write
from tests.algorithm.worlds import LETTERS, START, Unasked, World

WORLD = World(draft=(0.6, 0.3, 0.1), target=(0.2, 0.5, 0.3), reward=(0.2, 0.6, 0.9), turns=True)
PARAMS = Params(method="specs", n=2, beta=2.0, switch_threshold=0.6, stop=StopRules(max_steps=2))
NUM_DRAWS = 3_000


async def test_two_steps_follow_their_exact_law() -> None:
    """The target's soft best-of-n; then, by the first step's reward, the draft's on tilted rewards or the same."""
    first = exact.soft_best_of_n(WORLD.target, WORLD.reward, 2.0, 2)
    draft, target, reward = (WORLD.after(table, 1) for table in (WORLD.draft, WORLD.target, WORLD.reward))
    tilted = exact.tilted_rewards(World(draft, target, reward), 2.0)
    second = {
        Source.DRAFT: exact.soft_best_of_n(draft, tilted, 2.0, 2),
        Source.TARGET: exact.soft_best_of_n(target, reward, 2.0, 2),
    }
    law: dict[tuple[Source, str], float] = {}
    for y in WORLD.steps:
        writer = Source.DRAFT if WORLD.reward[y] >= 0.6 else Source.TARGET
        law |= {(writer, LETTERS[y] + LETTERS[z]): first[y] * second[writer][z] for z in WORLD.steps}
    answers = [(await write(PARAMS, WORLD.ports(), seed, answers=UNREAD)).answer for seed in range(NUM_DRAWS)]
    assert p_value(law, [(answer.steps[1].source, answer.text) for answer in answers]) > LEAST_P


@pytest.mark.parametrize(
    ("reward", "writer"), [(0.59, Source.TARGET), (0.6, Source.DRAFT), (0.9, Source.DRAFT), (math.nan, Source.TARGET)]
)
async def test_the_step_before_says_who_writes(reward: float, writer: Source) -> None:
    """The target until a step reaches the threshold, and again after a step that does not."""
    before = trajectory(("a", 0.9), ("b", reward))
    assert choose_writer(before, PARAMS) is writer
    made = await run_step(before, PARAMS, WORLD.ports(), 1)
    assert (made.step.source, made.step.outcome, made.step.rejected) == (writer, Outcome.ACCEPTED, None)
    assert [proposal.source for proposal in made.proposals] == [writer]
    assert (made.step.tilted_reward is None) is (writer is Source.TARGET)


async def test_the_target_writes_the_first_step() -> None:
    """Unlike GSI and RSD, which begin with the draft; it writes ``n_target`` candidates."""
    made = await run_step(START, replace(PARAMS, n_target=5), replace(WORLD.ports(), draft=Unasked()), 1)
    assert made.step.source is Source.TARGET
    assert [len(proposal.candidates) for proposal in made.proposals] == [5]
    assert choose_writer(START, replace(PARAMS, switch_threshold=-1e6)) is Source.TARGET
