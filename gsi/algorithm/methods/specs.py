"""SPECS: soft verification of the draft's steps, and switching between draft and target (Cemri et al., 2025).

The target writes the first step. A step of high reward says that the problem is easy here, so that the draft writes the
next one; else the target does. The draft's candidates are drawn by reward and likelihood ratio, the target's by reward.
No step is written twice, unlike GSI and RSD.
"""

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, in_every_job, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept, draw, propose, soft_best_of_n
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep
from gsi.algorithm.tilting import rankable


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory``. ``seed`` is the job's."""
    if choose_writer(trajectory, params) is Source.TARGET:
        return accept(trajectory, await soft_best_of_n(Source.TARGET, trajectory, params, ports, seed))
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=True)
    tilted = drafted.tilted_rewards(params.beta)
    return accept(trajectory, draw(drafted, tilted, params, trajectory, seed), tilted)


def choose_writer(trajectory: Trajectory, params: Params) -> Source:
    """Return the draft if the step before has at least the reward at which SPECS switches, else the target."""
    is_easy = bool(trajectory.steps) and rankable(trajectory.steps[-1].reward) >= params.switch_threshold
    return Source.DRAFT if is_easy else Source.TARGET


SPECS = Method(
    name="specs",
    summary=(
        "the target writes until a step reaches `switch_threshold`, then the draft until a step is below it; "
        "one of the draft's n candidates is drawn by its tilted reward"
    ),
    source="SPECS (arXiv 2506.15733)",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_likelihoods=in_every_job,
    draws_tilted=True,
    parameters=("n", "n_target", "beta", "switch_threshold", "n_rule"),
)
