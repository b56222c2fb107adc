"""Guided Speculative Inference: one step of Algorithm 1 (GSI paper, lines 3 to 13). The line numbers are the paper's.

Draft n candidates and score each under the target and the PRM; select a candidate by its tilted reward; keep it if that
reaches u, else let the target write the step.
"""

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, in_every_job, lift, written_by
from gsi.algorithm.params import Params, Preset
from gsi.algorithm.parts import accept, draw, is_hopeless, propose, resample
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import NewStep


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory`` by Algorithm 1. ``seed`` is the job's."""
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=True)  # lines 3, 4
    tilted = drafted.tilted_rewards(params.beta)
    drafted = draw(drafted, tilted, params, trajectory, seed)  # line 5
    passes = is_accepted(  # line 6
        tilted[drafted.drawn], params.least_tilted_reward, is_strict=params.preset is Preset.AUTHORS
    )
    if passes or is_hopeless(drafted, params):
        return accept(trajectory, drafted, tilted)  # line 7
    return await resample(trajectory, drafted, params, ports, seed, tilted)  # lines 9 to 12


def is_accepted(tilted_reward: float, acceptance_threshold: float, *, is_strict: bool = False) -> bool:
    """Return whether the tilted reward reaches u, a finite number (line 6). -inf never does.

    A tie is accepted, unless the test ``is_strict``, as in the authors' code.
    """
    return tilted_reward > acceptance_threshold if is_strict else tilted_reward >= acceptance_threshold


def find_leader(drafted: Proposal, trajectory: Trajectory, params: Params, seed: int) -> int | None:
    """Return the candidate that lines 4 to 7 keep, by the scores that there are; None if the target is to write."""
    tilted = drafted.tilted_rewards(params.beta)
    drawn = draw(drafted, tilted, params, trajectory, seed).drawn
    is_strict = params.preset is Preset.AUTHORS
    return drawn if is_accepted(tilted[drawn], params.least_tilted_reward, is_strict=is_strict) else None


def find_leader_without_rejection(drafted: Proposal, trajectory: Trajectory, params: Params, seed: int) -> int | None:
    """Return the candidate that lines 4 and 5 select, by the scores that there are."""
    return draw(drafted, drafted.tilted_rewards(params.beta), params, trajectory, seed).drawn


async def run_step_without_rejection(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Keep whatever lines 3 to 5 select: the policy of Theorem 1 (section 3, tilted soft best-of-n)."""
    drafted = await propose(Source.DRAFT, trajectory, params, ports, seed, likelihoods=True)
    tilted = drafted.tilted_rewards(params.beta)
    return accept(trajectory, draw(drafted, tilted, params, trajectory, seed), tilted)


GSI = Method(
    name="gsi",
    summary=(
        "the draft writes n candidates and one is drawn by its tilted reward; "
        "if the tilted reward is below u, the target writes the step"
    ),
    source="GSI, Algorithm 1",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_likelihoods=in_every_job,
    can_reject=True,
    parameters=("n", "n_target", "beta", "acceptance_threshold", "resample", "preset"),
    find_leader=find_leader,
)

GSI_NO_REJECTION = Method(
    name="gsi-no-rejection",
    summary="`gsi` without the test: the drawn candidate is always kept",
    source="GSI, section 3 and Theorem 1",
    make_round=lift(run_step_without_rejection),
    writers=written_by(Source.DRAFT),
    asks_likelihoods=in_every_job,
    parameters=("n", "beta", "preset"),
    find_leader=find_leader_without_rejection,
)
