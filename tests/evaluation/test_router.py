"""``gsi router train``: which steps teach, what is learned from them, and what the card says of it."""

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.router import FEATURES
from gsi.cli.main import app
from gsi.errors import InvalidRequestError
from gsi.evaluation.records import RecordedJob
from gsi.evaluation.router_card import write_card
from gsi.evaluation.router_examples import Example, Examples, read_examples
from gsi.evaluation.router_training import shorten_path, train_router
from gsi.jobs.step_record import StepRecord
from gsi.router_file import read_router
from tests.evaluation.made_records import MODELS, accepted_step, candidate, job, proposal, resampled_step, step

NUM_PROBLEMS = 60


def both(drafted: float, written: float) -> StepRecord:
    """Return a step of the oracle: each model wrote one candidate, and the better is kept."""
    proposals = (
        proposal(Source.DRAFT, candidate(reward=drafted)),
        proposal(Source.TARGET, candidate(reward=written)),
    )
    if written > drafted:
        return step(*proposals, source=Source.TARGET, outcome=Outcome.RESAMPLED, reward=written)
    return step(*proposals, reward=drafted)


def oracle_job(problem: str, *steps: StepRecord) -> RecordedJob:
    return job(problem, label="arbitrage-oracle", steps=steps, rendered_prompt=f"Question {problem}?")


def write_file(path: Path, jobs: Sequence[RecordedJob]) -> Path:
    path.write_text("".join(each.to_json() + "\n" for each in jobs))
    return path


def made_jobs(seed: int = 0) -> list[RecordedJob]:
    """Return jobs in which a step's low reward makes the target's likely to be better, but not sure."""
    rng = random.Random(seed)

    def draw_step() -> StepRecord:
        drafted = rng.random()
        is_better = rng.random() < 1 / (1 + math.exp(8 * (drafted - 0.5)))
        return both(drafted, min(1.0, drafted + 0.3) if is_better else drafted - 0.1)

    return [oracle_job(f"p{number}", *(draw_step() for _ in range(5))) for number in range(NUM_PROBLEMS)]


def test_every_step_of_the_oracle_is_an_example(tmp_path: Path) -> None:
    """Whichever branch was kept: its features are of the draft's step, its advantage is the target's."""
    path = write_file(tmp_path / "results.jsonl", [oracle_job("a", both(0.25, 0.75), both(0.5, 0.25))])
    found = read_examples([path])
    assert [example.advantage for example in found.examples] == [0.5, -0.25]
    assert [example.features["reward"] for example in found.examples] == [0.25, 0.5]
    assert [example.features["previous_reward"] for example in found.examples] == [0.25, 0.75]
    assert [example.features["target_share"] for example in found.examples] == [0.0, 1.0]
    assert (found.methods, found.models) == (("arbitrage-oracle",), MODELS)


def test_rejected_steps_of_other_methods_teach_only_on_request(tmp_path: Path) -> None:
    """They are a biased sample: all of them failed a test."""
    jobs = [
        oracle_job("a", both(0.9, 0.95)),
        job("b", label="rsd", steps=[accepted_step(), resampled_step(rejected_reward=0.25, reward=0.75)]),
    ]
    path = write_file(tmp_path / "results.jsonl", jobs)
    assert len(read_examples([path]).examples) == 1
    assert [each.advantage for each in read_examples([path], with_rejected=True).examples][1:] == [0.5]


def test_records_without_both_branches_are_refused(tmp_path: Path) -> None:
    """The error says what to run."""
    path = write_file(tmp_path / "results.jsonl", [job("a", label="draft", steps=[accepted_step()])])
    with pytest.raises(InvalidRequestError, match="no step has both branches; allowed: records of arbitrage-oracle"):
        read_examples([path])
    (tmp_path / "text.txt").write_text("hello\n")
    with pytest.raises(InvalidRequestError, match="line 1: not a result"):
        read_examples([tmp_path / "text.txt"])
    with pytest.raises(InvalidRequestError, match="cannot be read"):
        read_examples([tmp_path / "nowhere.jsonl"])


def test_records_of_two_trios_are_refused(tmp_path: Path) -> None:
    """A router belongs to its models."""
    other = oracle_job("b", both(0.1, 0.2))
    other = other.model_copy(update={"models": {**MODELS, "prm": MODELS["draft"]}})
    path = write_file(tmp_path / "results.jsonl", [oracle_job("a", both(0.1, 0.2)), other])
    with pytest.raises(InvalidRequestError, match="several trios of models"):
        read_examples([path])


def test_a_router_learns_when_the_target_is_better(tmp_path: Path) -> None:
    """Its probability falls with the draft's reward as the law of the records does, and is calibrated."""
    path = write_file(tmp_path / "results.jsonl", made_jobs())
    router, quality = train_router(read_examples([path]), margin=0.1)
    assert quality.auc.low > 0.7
    assert quality.auc.low < quality.auc.value < quality.auc.high
    assert quality.brier < quality.brier_of_base_rate
    assert all(abs(predicted - observed) < 0.2 for predicted, observed in quality.calibration)
    at_half = next(each for each in quality.routed if each.threshold == 0.5)
    assert quality.oracle_reward > at_half.reward > at_half.random_reward
    features = dict.fromkeys(FEATURES, 0.0)
    learned = router.to_router()

    def ask(reward: float) -> float:
        rewards = dict.fromkeys(("reward", "best_reward", "mean_reward", "previous_reward", "least_reward"), reward)
        return learned.probability({**features, **rewards, "mean_log_likelihood": -1.0, "log_likelihood": -1.0})

    assert ask(0.1) > 0.8
    assert ask(0.9) < 0.2


def test_what_cannot_be_predicted_is_reported_as_such() -> None:
    """A label that is a coin toss has an AUC whose interval holds 0.5, and no gain over the reward."""
    rng = random.Random(1)
    examples = tuple(
        Example(f"p{number // 5}", dict.fromkeys(FEATURES, 0.0) | {"reward": rng.random()}, rng.choice([-0.5, 0.5]))
        for number in range(300)
    )
    _, quality = train_router(Examples(examples, {}, (), {}), margin=0.1)
    assert quality.auc.low < 0.5 < quality.auc.high
    assert quality.auc_gain.low < 0.1


def test_steps_of_one_problem_are_never_on_both_sides() -> None:
    """A label that belongs to its problem, read from a feature that only names the problem, is not predicted."""
    rng = random.Random(2)
    is_better = [rng.random() < 0.5 for _ in range(NUM_PROBLEMS)]
    examples = tuple(
        Example(
            f"p{number}",
            dict.fromkeys(FEATURES, 0.0) | {"reward": rng.random(), "log_place": float(number)},
            0.5 if is_better[number] else -0.5,
        )
        for number in range(NUM_PROBLEMS)
        for _ in range(10)
    )
    _, quality = train_router(Examples(examples, {}, (), {}), margin=0.1)
    assert quality.auc.low < 0.5


def test_the_auc_is_scikit_learns() -> None:
    """Ties counted half."""
    rng = random.Random(3)
    examples = tuple(
        Example(f"p{k // 5}", dict.fromkeys(FEATURES, 0.0) | {"reward": rng.randrange(5) / 4}, rng.choice([-0.5, 0.5]))
        for k in range(200)
    )
    _, quality = train_router(Examples(examples, {}, (), {}), margin=0.1)
    labels = [example.advantage > 0 for example in examples]
    rewards = [-example.features["reward"] for example in examples]
    assert quality.auc_of_reward.value == pytest.approx(roc_auc_score(labels, rewards))


@pytest.mark.parametrize(
    ("model", "name"),
    [("/home/me/models/draft", "draft"), ("models/draft", "models/draft"), ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B")],
)
def test_a_router_does_not_say_where_its_models_lay(model: str, name: str) -> None:
    """A folder of this machine means nothing on another."""
    assert shorten_path(model) == name


def test_too_few_steps_are_refused() -> None:
    """With both counts, so that a reader knows what to run more of."""
    examples = tuple(Example(f"p{k}", dict.fromkeys(FEATURES, float(k)), 0.5 if k < 3 else -0.5) for k in range(40))
    with pytest.raises(InvalidRequestError, match="in 3 steps the target's is better by more than the margin, in 37"):
        train_router(Examples(examples, {}, (), {}), margin=0.1)


def test_the_command_writes_a_router_that_a_coordinator_can_read(tmp_path: Path) -> None:
    """With its models, margin, data and quality; and a card of the same figures beside it."""
    path = write_file(tmp_path / "results.jsonl", made_jobs())
    out = tmp_path / "router"
    done = CliRunner().invoke(app, ["router", "train", str(path), "--out", str(out), "--margin", "0.2", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    read = read_router(out / "router.json")
    assert (read.margin, read.data["problems"], read.data["n"]) == (0.2, NUM_PROBLEMS, [4])
    assert {role: model.model for role, model in read.models.items()} == {r: m.model for r, m in MODELS.items()}
    card = (out / "README.md").read_text()
    assert f"{said['auc']['value']:.3f} [{said['auc']['low']:.3f}, {said['auc']['high']:.3f}]" in card
    assert "tiny-target" in card
    again = train_router(read_examples([path]), margin=0.2)
    assert write_card(*again) == card  # equal records give an equal router
