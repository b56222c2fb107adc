"""Guided Speculative Inference: one step of Algorithm 1 (GSI paper, lines 3 to 13). The line numbers are the paper's.

Draft n candidates and score each under the target and the PRM; select a candidate by its tilted reward; keep it if that
reaches u, else let the target write the step. With scope responses the step is the whole response (section 2,
"one-shot generation").
"""

from collections.abc import Sequence
from functools import partial

from gsi.algorithm.candidates import Outcome, Population, Source, Trajectory
from gsi.algorithm.method import Answers, Method, Unfinished, in_every_job, written_by
from gsi.algorithm.methods.responses import (
    by_scope,
    find_begun,
    is_over_responses,
    pick_in_parts,
    pick_of_model,
    start_by_scope,
    write_each,
)
from gsi.algorithm.params import Params, Preset
from gsi.algorithm.parts import accept, draw, is_hopeless, propose, resample, score, tilted_score
from gsi.algorithm.ports import Ports
from gsi.algorithm.proposal import Proposal
from gsi.algorithm.round import NewStep, Round
from gsi.algorithm.seeds import uniform
from gsi.algorithm.soft_best_of_n import select


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


# --- Whole responses: a population of the n places of the draft and, behind them, those of the target ----------------


def start(prompt: Trajectory, params: Params) -> Population:
    """Return a place for each response. Those of the target stay empty unless the draft's response is rejected."""
    return (prompt,) * (params.n + params.num_target_candidates) if is_over_responses(params) else (prompt,)


def pick(population: Population, unfinished: Sequence[Unfinished], seed: int) -> Sequence[Unfinished]:
    """Let the draft's responses grow (line 3); when all are finished, the target's, if line 6 rejects (line 9).

    With a rule for n either model writes its responses in parts, until the rule has enough of their scores.
    """
    if not unfinished or not is_over_responses(unfinished[0].params):
        return unfinished
    params = unfinished[0].params
    if drafts := pick_of_model(population[: params.n], 0, unfinished):
        return drafts
    if draw_response(population, params, seed)[1]:
        return ()
    return pick_of_model(population[params.n :], params.n, unfinished)


async def write_responses(population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Round:
    """Let the responses of one model grow by a step."""
    write = partial(write_each, population, growing, ports, seed, rates_score=True)
    if growing[0].place < growing[0].params.n:
        return await write(source=Source.DRAFT, likelihoods=True)
    return await write(source=Source.TARGET, outcome=Outcome.RESAMPLED)


async def choose(population: Population, params: Params, _answers: Answers, seed: int) -> int:
    """Return the draft's drawn response if line 6 accepts it; else the target's, by soft best-of-n (line 11)."""
    if not is_over_responses(params):
        return 0
    drawn, passes = draw_response(population, params, seed)
    anew = find_begun(population[params.n :])
    if passes or not anew:  # the PRM may have had no room for the target's
        return drawn
    scores = [score(trajectory, params.aggregate) for trajectory in anew]
    return params.n + select(scores, params.beta, uniform(seed, "response", Source.TARGET, "select"))


async def choose_without_rejection(population: Population, params: Params, _answers: Answers, seed: int) -> int:
    """Return the drawn response."""
    return draw_response(population, params, seed)[0] if is_over_responses(params) else 0


def draw_response(population: Population, params: Params, seed: int) -> tuple[int, bool]:
    """Draw one of the draft's responses by softmax(beta * r~) (lines 4, 5); return its place, and whether it passes."""
    tilted = [tilted_score(trajectory, params) for trajectory in find_begun(population[: params.n])]
    drawn = select(tilted, params.beta, uniform(seed, "response", Source.DRAFT, "select"))
    is_strict = params.preset is Preset.AUTHORS
    return drawn, is_accepted(tilted[drawn], params.least_tilted_reward, is_strict=is_strict)


GSI = Method(
    name="gsi",
    summary=(
        "the draft writes n candidates and one is drawn by its tilted reward; "
        "if the tilted reward is below u, the target writes the step. The step may be the whole response"
    ),
    source="GSI, Algorithm 1",
    make_round=by_scope(run_step, write_responses),
    start=start,
    pick=pick,
    choose=choose,
    writers=written_by(Source.DRAFT, Source.TARGET),
    asks_likelihoods=in_every_job,
    can_reject=True,
    draws_tilted=True,
    is_search=is_over_responses,
    parameters=("n", "n_target", "beta", "acceptance_threshold", "resample", "preset", "scope", "aggregate", "n_rule"),
    find_leader=find_leader,
)

GSI_NO_REJECTION = Method(
    name="gsi-no-rejection",
    summary="`gsi` without the test: the drawn candidate is always kept",
    source="GSI, section 3 and Theorem 1",
    make_round=by_scope(run_step_without_rejection, write_responses),
    start=start_by_scope,
    pick=pick_in_parts,
    choose=choose_without_rejection,
    writers=written_by(Source.DRAFT),
    asks_likelihoods=in_every_job,
    draws_tilted=True,
    is_search=is_over_responses,
    parameters=("n", "beta", "preset", "scope", "aggregate", "n_rule"),
    find_leader=find_leader_without_rejection,
)
