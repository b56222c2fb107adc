"""ConfSpec: the draft judges its own step first, and the target judges only the steps of which the draft is unsure.

"enabling high-confidence draft decisions to be accepted directly while selectively escalating uncertain cases to the
large target model" (ConfSpec, abstract). A decision is to keep the step or to let the target write it; the confidence
is the probability that the draft gives to its decision.
"""

from gsi.algorithm import judging
from gsi.algorithm.candidates import Judgement, Source, Trajectory
from gsi.algorithm.method import Method, in_no_job, lift, written_by
from gsi.algorithm.params import Params
from gsi.algorithm.parts import accept_judged, judge, propose_one, write_instead
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import NewStep


async def run_step(trajectory: Trajectory, params: Params, ports: Ports, seed: int) -> NewStep:
    """Make the step that follows ``trajectory``. ``seed`` is the job's."""
    drafted = await propose_one(Source.DRAFT, trajectory, params, ports, seed)
    own, drafted = await judge(Source.DRAFT, trajectory, drafted, params, ports)
    judgements, is_kept = [own], decide(own, params)
    if is_kept is None:
        judgement, drafted = await judge(Source.TARGET, trajectory, drafted, params, ports)
        judgements.append(judgement)
        is_kept = judgement.score >= params.least_judge_score
    if is_kept:
        return accept_judged(trajectory, drafted, judgements)
    return await write_instead(trajectory, drafted, judgements, params, ports, seed)


def decide(own: Judgement, params: Params) -> bool | None:
    """Return whether the draft's judgement keeps its step; None if the draft is unsure."""
    values = params.judge_prompt.values
    keeping = judging.confidence(own.probabilities, values, params.least_judge_score)
    if max(keeping, 1 - keeping) < params.confidence_threshold:
        return None
    return keeping > 1 - keeping


CONF_SPEC = Method(
    name="conf-spec",
    summary=(
        "`spec-reason`, but the draft judges its own step first; the target judges only where the probability of the "
        "draft's decision is below `confidence_threshold`"
    ),
    source="ConfSpec, abstract",
    make_round=lift(run_step),
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_rewards=in_no_job,
    judges=written_by(Source.DRAFT, Source.TARGET),
    can_reject=True,
    parameters=("judge_prompt", "judge_score", "judge_threshold", "confidence_threshold", "resample"),
)
