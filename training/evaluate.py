"""Measure the family on validation problems: errors per step, the PRM's AUC, and the paper's methods at several n.

This module runs Algorithm 1 on many problems at once, with the paper's settings, to tune the models. The system does
not use it. `python -m training.evaluate` measures the family in `models/`.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata
from transformers import Qwen2ForCausalLM

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from training.grading import Tokens, grade_solution, join_step
from training.rollouts import Candidate, reward_steps, sample_solutions, sample_steps, score_steps
from training.task import MAX_EVENTS, Problem, draw_distinct_problems
from training.tokenizer import TURN_END, decode, prompt_tokens, token_ids

BETA, ACCEPTANCE_THRESHOLD, TEMPERATURE = 20.0, 0.5, 0.7  # section 4 of the paper
RSD_THRESHOLD = 0.7
MAX_STEPS = MAX_EVENTS + 3
CANDIDATE_COUNTS = (1, 4)
NUM_TIMED = 20  # problems that a target writes for its seconds


Numbers = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Family:
    """The three models as the engines load them."""

    draft: Qwen2ForCausalLM
    target: Qwen2ForCausalLM
    prm: Qwen2ForProcessRewardModel


@dataclass(slots=True)
class Trajectory:
    """An unfinished solution: its kept steps, and how many of them the draft wrote."""

    problem: Problem
    steps: list[Tokens] = field(default_factory=list)
    num_accepted: int = 0

    @property
    def prefix(self) -> Tokens:
        """Return the tokens that a language model reads."""
        return tuple(prompt_tokens(self.problem)) + sum(self.steps, ())

    @property
    def reward_prefix(self) -> Tokens:
        """Return the tokens that the PRM reads."""
        return tuple(prompt_tokens(self.problem)) + sum(map(join_step, self.steps), ())

    @property
    def is_done(self) -> bool:
        """Tell whether the solution has ended or has too many steps."""
        ended = bool(self.steps) and self.steps[-1][-1] == token_ids()[TURN_END]
        return ended or len(self.steps) >= MAX_STEPS

    @property
    def is_right(self) -> bool:
        """Tell whether the boxed answer is the right one."""
        text = decode(sum(self.steps, ()))
        match = re.search(r"\\boxed\{(\d+)\}", text)
        return match is not None and int(match[1]) == self.problem.answer


@dataclass(frozen=True, slots=True)
class Outcome:
    """One method's share of right answers and share of accepted steps."""

    accuracy: float
    accepted: float


@dataclass(frozen=True, slots=True)
class Quality:
    """One language model's share of wrong steps, and the PRM's AUC on those steps."""

    step_error: float
    auc: float


@dataclass(frozen=True, slots=True)
class Depth:
    """What a target of some depth answers rightly, and what it costs to let it write."""

    layers: int
    alone: float  # accuracy of one plain sample
    guided: float  # accuracy of GSI with n = 4
    best_of: float  # accuracy of soft best-of-n with n = 4
    seconds: float  # that one plain sample takes, one problem at a time, on one thread


Method = Callable[[Family, list[Trajectory], int, np.random.Generator], None]
"""Appends one step to every trajectory, from n candidates each."""


def best_of_draft(family: Family, trajectories: list[Trajectory], n: int, rng: np.random.Generator) -> None:
    """Keep a draft candidate by soft best-of-n (for n = 1: the draft alone)."""
    _soft_best_of_n(family.draft, family.prm, trajectories, n, rng)


def best_of_target(family: Family, trajectories: list[Trajectory], n: int, rng: np.random.Generator) -> None:
    """Keep a target candidate by soft best-of-n (for n = 1: the target alone)."""
    _soft_best_of_n(family.target, family.prm, trajectories, n, rng)


def rsd(family: Family, trajectories: list[Trajectory], n: int, rng: np.random.Generator) -> None:
    """Keep a draft candidate by soft best-of-n if its reward reaches the threshold, else a target candidate."""
    candidates, rewards = _propose(family.draft, family.prm, trajectories, n)
    _accept_or_resample(family, trajectories, candidates, rewards, RSD_THRESHOLD, rng)


def gsi(family: Family, trajectories: list[Trajectory], n: int, rng: np.random.Generator) -> None:
    """Do one step of Algorithm 1."""
    candidates, rewards = _propose(family.draft, family.prm, trajectories, n)
    prefixes = [trajectory.prefix for trajectory in trajectories]
    tokens = [[candidate.tokens for candidate in row] for row in candidates]
    target = np.array(score_steps(family.target, prefixes, tokens, TEMPERATURE))
    draft = np.array([[candidate.log_likelihood for candidate in row] for row in candidates])
    tilted = rewards + (target - draft) / BETA
    _accept_or_resample(family, trajectories, candidates, tilted, ACCEPTANCE_THRESHOLD, rng)


METHODS: dict[str, Method] = {
    "S-BoN (draft)": best_of_draft,
    "RSD": rsd,
    "GSI": gsi,
    "S-BoN (target)": best_of_target,
}


def run_method(family: Family, method: Method, problems: list[Problem], n: int, seed: int) -> Outcome:
    """Solve all problems in lockstep, one step at a time."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    trajectories = [Trajectory(problem) for problem in problems]
    while running := [trajectory for trajectory in trajectories if not trajectory.is_done]:
        method(family, running, n, rng)
    num_steps = sum(len(trajectory.steps) for trajectory in trajectories)
    return Outcome(
        accuracy=float(np.mean([trajectory.is_right for trajectory in trajectories])),
        accepted=sum(trajectory.num_accepted for trajectory in trajectories) / num_steps,
    )


def measure_quality(
    model: Qwen2ForCausalLM, prm: Qwen2ForProcessRewardModel, problems: list[Problem], seed: int
) -> Quality:
    """Sample one solution per problem and grade each of its steps. The AUC is nan if no step is wrong."""
    torch.manual_seed(seed)
    prompts = [tuple(prompt_tokens(problem)) for problem in problems]
    right: list[bool] = []
    prefixes: list[Tokens] = []
    steps: list[list[Tokens]] = []
    solutions = sample_solutions(model, prompts, 1, TEMPERATURE)
    for problem, prompt, found in zip(problems, prompts, solutions, strict=True):
        prefix = prompt
        for step, is_right in grade_solution(problem, found[0].tokens):
            right.append(is_right)
            prefixes.append(prefix)
            steps.append([step])
            prefix += step
    rewards = [row[0] for row in reward_steps(prm, prefixes, steps)]
    return Quality(step_error=1.0 - float(np.mean(right)), auc=compute_auc(rewards, right))


def measure_depth(family: Family, problems: list[Problem], seed: int) -> Depth:
    """Measure the family's target."""
    prompts = [tuple(prompt_tokens(problem)) for problem in problems[:NUM_TIMED]]
    torch.manual_seed(seed)
    started = time.monotonic()
    for prompt in prompts:
        sample_solutions(family.target, [prompt], 1, TEMPERATURE)
    return Depth(
        layers=family.target.config.num_hidden_layers,
        seconds=(time.monotonic() - started) / len(prompts),
        alone=run_method(family, best_of_target, problems, 1, seed).accuracy,
        guided=run_method(family, gsi, problems, 4, seed).accuracy,
        best_of=run_method(family, best_of_target, problems, 4, seed).accuracy,
    )


def compute_auc(scores: list[float], right: list[bool]) -> float:
    """Return how often a right step scores above a wrong one (ties count half)."""
    ranks = rankdata(scores)
    positive = np.array(right)
    num_right, num_wrong = positive.sum(), (~positive).sum()
    if not num_right or not num_wrong:
        return float("nan")
    return float((ranks[positive].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong))


def _propose(
    model: Qwen2ForCausalLM, prm: Qwen2ForProcessRewardModel, trajectories: list[Trajectory], n: int
) -> tuple[list[list[Candidate]], Numbers]:
    """Return n candidates for each trajectory and their rewards [trajectories, n]."""
    candidates = sample_steps(model, [trajectory.prefix for trajectory in trajectories], n, TEMPERATURE)
    joined = [[join_step(candidate.tokens) for candidate in row] for row in candidates]
    return candidates, np.array(reward_steps(prm, [each.reward_prefix for each in trajectories], joined))


def _soft_best_of_n(
    model: Qwen2ForCausalLM,
    prm: Qwen2ForProcessRewardModel,
    trajectories: list[Trajectory],
    n: int,
    rng: np.random.Generator,
) -> None:
    candidates, rewards = _propose(model, prm, trajectories, n)
    for trajectory, row, choice in zip(trajectories, candidates, _select(rewards, rng), strict=True):
        trajectory.steps.append(row[choice].tokens)


def _accept_or_resample(
    family: Family,
    trajectories: list[Trajectory],
    candidates: list[list[Candidate]],
    tilted: Numbers,
    threshold: float,
    rng: np.random.Generator,
) -> None:
    rejected: list[Trajectory] = []
    for trajectory, row, score, choice in zip(trajectories, candidates, tilted, _select(tilted, rng), strict=True):
        if score[choice] >= threshold:
            trajectory.steps.append(row[choice].tokens)
            trajectory.num_accepted += 1
        else:
            rejected.append(trajectory)
    if rejected:
        _soft_best_of_n(family.target, family.prm, rejected, tilted.shape[1], rng)


def _select(scores: Numbers, rng: np.random.Generator) -> Numbers:
    """Draw one column per row with probability softmax(beta * score), by the Gumbel-max trick."""
    choices: Numbers = np.argmax(BETA * scores + rng.gumbel(size=scores.shape), axis=1)
    return choices


def load_family(folder: Path) -> Family:
    """Load the three models as float32."""
    return Family(
        draft=load_language_model(folder / "draft"),
        target=load_language_model(folder / "target"),
        prm=Qwen2ForProcessRewardModel.from_pretrained(folder / "prm", dtype=torch.float32).eval(),
    )


def load_language_model(folder: Path) -> Qwen2ForCausalLM:
    """Load a language model as float32."""
    return Qwen2ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def main() -> None:
    """Print the table of the family in a folder."""
    parser = argparse.ArgumentParser(description="Measure a trained family on validation problems.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--problems", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    family = load_family(arguments.models)
    problems = draw_distinct_problems(random.Random(f"{arguments.seed} evaluate"), arguments.problems, "validation")
    for name, model in (("draft", family.draft), ("target", family.target)):
        quality = measure_quality(model, family.prm, problems, arguments.seed)
        print(f"{name:<16}{quality.step_error:.3f} wrong per step, PRM AUC {quality.auc:.3f}", flush=True)
    for n in CANDIDATE_COUNTS:
        for name, method in METHODS.items():
            outcome = run_method(family, method, problems, n, arguments.seed)
            print(f"n = {n:<3} {name:<16}{outcome.accuracy:.3f} ({outcome.accepted:.2f} accepted)", flush=True)


if __name__ == "__main__":
    main()
