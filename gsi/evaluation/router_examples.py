"""What a router learns from: steps of which draft and target each wrote one, with the reward of both.

Every step of ``arbitrage-oracle`` is an example. Of ``gsi``, ``rsd`` and ``arbitrage`` only the steps are that failed a
test: all of them low, so a router that learns from them alone knows nothing of good steps. They are read only on
request.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from gsi.algorithm.candidates import Candidate, Prompt, Source, Trajectory
from gsi.algorithm.router import Features, describe_step
from gsi.algorithm.tilting import rankable
from gsi.errors import InvalidRequestError
from gsi.evaluation.folder import Folder
from gsi.evaluation.identity import list_model_differences
from gsi.evaluation.records import RecordedModel
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.state import JobState
from gsi.jobs.step_record import ProposalRecord, StepRecord

ORACLE = "arbitrage-oracle"
NOWHERE = Trajectory(Prompt((), (0,)))  # a router reads no prompt


@dataclass(frozen=True, slots=True)
class Example:
    """A step that both models wrote. ``advantage``: the target's reward minus the draft's, of the drawn candidates."""

    problem: str  # its prompt: examples of one problem are alike
    features: Features
    advantage: float


@dataclass(frozen=True, slots=True)
class Examples:
    """All examples of some records, and the models that wrote and rated them."""

    examples: tuple[Example, ...]
    models: Mapping[str, RecordedModel]
    methods: tuple[str, ...]
    settings: Mapping[str, tuple[object, ...]]  # n, temperature, … of the jobs: each value that was given


def read_examples(paths: Sequence[Path], *, with_rejected: bool = False) -> Examples:
    """Read folders of ``gsi eval``, and files with a result (``gsi run``) on each line.

    Raises InvalidRequestError if something cannot be read, if the records are of several trios of models, or if no
    step has both branches.
    """
    jobs = [job for path in paths for job in _read_jobs(path) if job.state is JobState.SUCCEEDED]
    used = [job for job in jobs if with_rejected or _method_of(job) == ORACLE]
    examples = [example for job in used for example in _list_examples(job)]
    if not examples:
        raise InvalidRequestError(
            f"records: no step has both branches; allowed: records of {ORACLE} with keep_candidates, as gsi eval makes "
            "them, or with --with-rejected those of gsi, rsd and arbitrage"
        )
    names = ("n", "n_target", "beta", "temperature", "top_p")
    values = {name: [(job.params or {}).get(name) for job in used] for name in names}
    return Examples(
        examples=tuple(examples),
        models=_find_models(used),
        methods=tuple(dict.fromkeys(map(_method_of, used))),
        settings={
            name: tuple(dict.fromkeys(each for each in found if each is not None)) for name, found in values.items()
        },
    )


def _read_jobs(path: Path) -> Sequence[ResultDocument]:
    if path.is_dir():
        return Folder(path).read_records()
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InvalidRequestError(f"records: {path} cannot be read ({error.strerror})") from None
    return [_read_line(path, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_line(path: Path, number: int, line: bytes) -> ResultDocument:
    try:
        return ResultDocument.from_json(line)
    except ValidationError as error:
        reason = str(error).partition("\n")[0]
        raise InvalidRequestError(f"records: {path} line {number}: not a result ({reason})") from None


def _method_of(job: ResultDocument) -> str:
    return str((job.params or {}).get("method", ""))


def _find_models(jobs: Sequence[ResultDocument]) -> Mapping[str, RecordedModel]:
    """Return the models of all jobs. Raises InvalidRequestError if they differ."""
    first, *others = [
        {role: RecordedModel.model_validate(model) for role, model in (job.models or {}).items()} for job in jobs
    ]
    for other in others:
        if differences := list(list_model_differences(first, other)):
            raise InvalidRequestError(
                f"records: of several trios of models ({'; '.join(differences)}); allowed: those of one trio"
            )
    return first


def _list_examples(job: ResultDocument) -> Iterator[Example]:
    trajectory = NOWHERE
    for step in job.steps:
        if step.branches:
            return  # a search: its steps are not one trajectory
        if example := _read_example(job, trajectory, step):
            yield example
        trajectory = trajectory.extend(step.to_step())


def _read_example(job: ResultDocument, trajectory: Trajectory, step: StepRecord) -> Example | None:
    """Return the example of a step; None unless both models wrote it, and both drawn candidates have a reward."""
    by_source = {proposal.source: proposal for proposal in step.proposals if proposal.selected is not None}
    drafted, written = by_source.get(Source.DRAFT), by_source.get(Source.TARGET)
    if drafted is None or written is None or drafted.selected is None or written.selected is None:
        return None
    rewards = _rewards_of(drafted)
    features = describe_step(trajectory, _candidates_of(drafted), rewards, drafted.selected)
    advantage = _rewards_of(written)[written.selected] - rewards[drafted.selected]
    if features is None or not math.isfinite(advantage):
        return None
    return Example(job.rendered_prompt or job.id, features, advantage)


def _rewards_of(proposal: ProposalRecord) -> list[float]:
    return [rankable(math.nan if each.reward is None else each.reward) for each in proposal.candidates]


def _candidates_of(proposal: ProposalRecord) -> list[Candidate]:
    return [
        Candidate(index, each.token_ids, each.text, each.log_likelihood, each.finish_reason)
        for index, each in enumerate(proposal.candidates)
    ]
