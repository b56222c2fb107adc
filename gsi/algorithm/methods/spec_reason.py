"""SpecReason: the target judges the draft's step itself, and writes the step if its score is too low (section 4.1).

No reward model is asked. A step costs the target one forward pass over the step and a short question, whose answer is
one token; the prefix before the step has been read.
"""

from gsi.algorithm.candidates import Source, Trajectory
from gsi.algorithm.method import Method, in_no_job, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept_judged, judge, propose_one, write_instead
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory``. ``seed`` is the job's."""
    drafted = await propose_one(Source.DRAFT, trajectory, params, ports, seed)
    judgement, drafted = await judge(Source.TARGET, trajectory, drafted, params, ports)
    if judgement.score >= params.least_judge_score:
        return accept_judged(trajectory, drafted, [judgement])
    return await write_instead(trajectory, drafted, [judgement], params, ports, seed)


SPEC_REASON = Method(
    name="spec-reason",
    summary=(
        "the draft writes a step, and the target scores it by the probability of a score token; "
        "if the score is below the threshold, the target writes the step"
    ),
    source="SpecReason, section 4.1",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_rewards=in_no_job,
    judges=written_by(Source.TARGET),
    can_reject=True,
    parameters=("judge_prompt", "judge_score", "judge_threshold", "resample"),
)
