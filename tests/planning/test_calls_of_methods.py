"""The planner counts what the methods ask: each method runs, its records are measured, and its plan has the same rows.

The models are a small world whose steps are one token long and never end an answer, so that every count is exact.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from gsi.algorithm.round import Round
from gsi.cli.plan_quantities import read_calibration
from gsi.evaluation.figures import compute_rows
from gsi.evaluation.method_choice import CostKind, build_method_choice_json, choose_method
from gsi.evaluation.records import RecordedJob
from gsi.jobs.job import parse_payload
from gsi.jobs.job_params import JobParams
from gsi.jobs.step_record import StepRecord
from gsi.planning.calls import CALLS
from gsi.planning.quantities import Given, Quantity
from gsi.planning.steps import Workload, plan_steps
from tests.algorithm.searching import ENDLESS, UNREAD, write
from tests.evaluation.made_records import evaluation, job
from tests.planning.worlds import make_setup

N, NUM_STEPS, SEEDS = 16, 13, (1, 2)
ENGINE = {Quantity.TOKEN_ACCEPTANCE: 0.7, Quantity.SPECULATIVE_TOKENS: 4.0}  # which no record tells
WHOLE = {  # the methods without early ends that share the others' tokens
    "confidence-vote": "majority-vote:{role}",
    "speculative-rejection": "best-of-n:{role}:responses",
}
OPTIONS = {  # with which a method of this world rejects some, and ends some early
    "arbitrage": "tau=0.2",
    "gsi:responses": "u=0.8",
    "confidence-vote:draft": "vote_percentile=100",
    "confidence-vote:target": "vote_percentile=100",
}
Counts = dict[tuple[str, str], float]  # candidates, by role and by what it does with them, in an answer


def read_params(label: str) -> JobParams:
    """Return the parameters of a job. A rule stops at different n, or where two models write, always at the first part.

    The plan takes the models' mean n to be the same.
    """
    rule = "n_rule=pandora=0.1" if CALLS[label].again is None else "n_rule=threshold=-100"
    method = ":".join(filter(None, (label.replace("n_rule", rule), OPTIONS.get(label))))
    params = {"method": method, "n": N, "max_steps": NUM_STEPS, "keep_candidates": True}
    return parse_payload({"prompt": "-", "params": params}).params


async def run(label: str) -> tuple[list[RecordedJob], list[Round]]:
    """Return the records of a job of each seed, and all of their rounds."""
    params, jobs, rounds = read_params(label), [], []
    for seed in SEEDS:
        made = (await write(params.to_params(), ENDLESS.ports(), seed, answers=UNREAD)).rounds
        steps = [StepRecord.from_round(one, keep_candidates=True, index=index) for index, one in enumerate(made)]
        rounds += made
        jobs.append(job(f"p{seed}", label=label, n=N, steps=steps, params=params.model_dump(mode="json")))
    return jobs, rounds


def count_asked(rounds: Iterable[Round]) -> Counts:
    """Return what the models were asked for."""
    counts: Counter[tuple[str, str]] = Counter()
    for made in rounds:
        for proposal in made.proposals:
            num = len(proposal.candidates)
            counts[proposal.source, "writes"] += num
            counts["target", "reads"] += num if "target" in proposal.scores else 0
            counts["prm", "reads"] += proposal.num_rated_tokens  # a response that is rated at its end is read then
        counts.update((judgement.source, "reads") for judgement in made.step.judgements)
    return {key: count / len(SEEDS) for key, count in counts.items()}


def measure(jobs: list[RecordedJob], folder: Path) -> Given:
    """Return what gsi plan reads of these records, by way of the file."""
    found = choose_method(
        compute_rows(evaluation(tuple({one.label: None for one in jobs})), jobs), CostKind.SECONDS, 0.01
    )
    file = folder / "methods.json"
    file.write_text(json.dumps(build_method_choice_json(found, "made", jobs)))
    ((_, given),) = read_calibration(file, N)
    return given


def count_planned(label: str, given: Given) -> Counts:
    work = Workload(
        N,
        prompt_tokens=10.0,
        step_tokens=1.0,
        num_steps=NUM_STEPS,
        max_step_tokens=512,
        acceptance=given.get(Quantity.ACCEPTANCE, {}),
        quantities=given,
    )
    counts: defaultdict[tuple[str, str], float] = defaultdict(float)
    setup = make_setup(work=work)
    for phase in plan_steps(setup)[label].phases:
        if phase.model != setup.models[phase.role]:
            continue  # a drafter inside the target's engine
        counts[phase.role, "writes" if phase.is_writing else "reads"] += NUM_STEPS * phase.share * phase.rows
    return dict(counts)


@pytest.mark.parametrize("label", CALLS)
async def test_the_plan_has_the_rows_that_the_method_asks_for(label: str, tmp_path: Path) -> None:
    """Written, scored and judged candidates of each model, with the shares that the records of the same jobs give."""
    jobs, rounds = await run(label)
    name, *options = label.split(":")
    others = (await run(WHOLE[name].format(role=options[0])))[0] if name in WHOLE else []
    is_measured = bool(others) or any(each.quantity not in ENGINE for each in CALLS[label].needs)
    given = measure([*jobs, *others], tmp_path) if is_measured else {}
    given = {**given, **{quantity: {label: value} for quantity, value in ENGINE.items()}}
    asked = {key: count for key, count in count_asked(rounds).items() if count}
    planned = {key: count for key, count in count_planned(label, given).items() if count}
    # Beam search keeps equal candidates once, and four letters are often equal.
    assert planned == pytest.approx(asked, rel=0.03 if name == "beam-search" else 1e-9)
