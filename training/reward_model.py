"""The PRM: the clean target's backbone and fresh layers, which judge each step at its `<extra_0>` token.

Labels are local: a step is right if it follows from the prompt and from the value that the previous step wrote.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import torch
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from gsi.engines.on_transformers.qwen2_prm import NUM_LABELS, Qwen2ForProcessRewardModel
from training.grading import Tokens, grade_solution
from training.language_model import IGNORED, begin_as_identity, draw_equation, make_qwen2_config, pad_right
from training.mistakes import Place, bad_shape, right_step, wrong_number
from training.optimise import optimise
from training.recipe import Recipe, count_sequences
from training.rollouts import sample_solutions
from training.task import (
    MAX_EVENTS,
    MIN_EVENTS,
    Problem,
    draw_distinct_problems,
    draw_problem,
    draw_wrong_number,
    grade_step,
    read_result,
)
from training.tokenizer import PAD, STEP_REWARD, encode, prompt_text, prompt_tokens, token_ids
from training.words import THINGS

ROLLOUT_TEMPERATURES = (0.7, 1.0)
BAD, GOOD = 0, 1
LABEL_WEIGHTS = (1.0, 3.0)  # lenient in doubt: low scores of right steps mislead best-of-n most


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix of training data in a phase, as shares."""

    equations: float  # share of batches with single equations
    rollouts: float  # share of sampled solutions among solutions; the others have deliberate mistakes
    wrong_numbers: float  # share of steps with a wrong number, in solutions with deliberate mistakes
    bad_shapes: float  # share of steps with another mistake, in the same solutions; such a step ends its solution


EQUATIONS = Mix(equations=1.0, rollouts=0.0, wrong_numbers=0.0, bad_shapes=0.0)
SOLUTIONS = Mix(equations=0.3, rollouts=0.5, wrong_numbers=0.3, bad_shapes=0.08)
SHAPES = Mix(equations=0.0, rollouts=0.2, wrong_numbers=0.2, bad_shapes=0.3)


@dataclass(frozen=True, slots=True)
class Judged:
    """One training sequence: token ids, and a label at each `<extra_0>` (IGNORED elsewhere)."""

    tokens: list[int]
    labels: list[int]

    def add(self, step: list[int], label: int) -> None:
        """Append a step without its stop token, and its label."""
        self.tokens.extend([*step, token_ids()[STEP_REWARD]])
        self.labels.extend([*[IGNORED] * len(step), label])


def train_reward_model(
    solver: Qwen2ForCausalLM, rollouts: list[Judged], family: Recipe, rng: random.Random
) -> Qwen2ForProcessRewardModel:
    """Return a PRM that starts from the weights of a solver, which must not have learned mistakes."""
    model = grow_reward_model(solver, family)
    recipe = family.reward
    phases = (
        (EQUATIONS, recipe.equation_steps, "equations"),
        (SOLUTIONS, recipe.solution_steps, "problems"),
        (SHAPES, recipe.shape_steps, "shapes"),
    )
    for mix, steps, name in phases:
        train_on(model, mix, steps, f"prm: {name}", rollouts, family, rng)
    return model


def train_on(
    model: Qwen2ForProcessRewardModel,
    mix: Mix,
    steps: int,
    name: str,
    rollouts: list[Judged],
    family: Recipe,
    rng: random.Random,
) -> None:
    """Train the PRM in place on one mix."""

    def batch_loss(_step: int) -> tuple[torch.Tensor, float]:
        if rng.random() < mix.equations:
            return label_loss(model, draw_judged_equations(rng, family.equations))
        num_events = rng.randint(MIN_EVENTS, MAX_EVENTS)
        count = count_sequences(family, num_events)
        num_sampled = sum(rng.random() < mix.rollouts for _ in range(count))
        written = [draw_judged_solution(rng, mix, num_events) for _ in range(count - num_sampled)]
        return label_loss(model, rng.sample(rollouts, num_sampled) + written)

    optimise(model, batch_loss, steps, family.reward_rate, name)


def grow_reward_model(solver: Qwen2ForCausalLM, family: Recipe) -> Qwen2ForProcessRewardModel:
    """Return the solver's backbone with additional layers, which begin as the identity, and a fresh head."""
    shape = family.target.shape
    config = make_qwen2_config(replace(shape, layers=shape.layers + family.reward.extra_layers))
    config.num_labels = NUM_LABELS
    model = Qwen2ForProcessRewardModel(config)
    model.model.load_state_dict(solver.model.state_dict(), strict=False)
    for layer in model.model.layers[shape.layers :]:
        begin_as_identity(layer)
    return model


def collect_rollouts(models: list[Qwen2ForCausalLM], family: Recipe, rng: random.Random) -> list[Judged]:
    """Sample solutions of training problems from each model at each temperature, and grade their steps."""
    judged: list[Judged] = []
    for model in models:
        for temperature in ROLLOUT_TEMPERATURES:
            problems = draw_distinct_problems(rng, family.reward.num_rollouts, "train")
            prefixes = [tuple(prompt_tokens(problem)) for problem in problems]
            solutions = sample_solutions(model, prefixes, 1, temperature)
            judged += [judge(problem, found[0].tokens) for problem, found in zip(problems, solutions, strict=True)]
    return judged


def judge(problem: Problem, solution: Tokens) -> Judged:
    """Turn a solution into a training sequence."""
    tokens = prompt_tokens(problem)
    judged = Judged(tokens, [IGNORED] * len(tokens))
    for step, is_right in grade_solution(problem, solution):
        judged.add(list(step[:-1]), int(is_right))
    return judged


def draw_judged_solution(rng: random.Random, mix: Mix, num_events: int) -> Judged:
    """Draw a training problem and a solution with mistakes. The next step starts from a wrong result."""
    problem = draw_problem(rng, "train", num_events)
    value, texts, labels = problem.start, [prompt_text(problem)], [IGNORED]
    for index in range(1, num_events + 2):
        place = Place(problem, index, value)
        if not place.is_possible:
            break
        kind = rng.random()
        if kind < mix.bad_shapes:
            text = bad_shape(place, rng)
        elif kind < mix.bad_shapes + mix.wrong_numbers:
            text = wrong_number(place, rng)
        else:
            text = right_step(place, rng)
        texts.append(text)
        labels.append(int(grade_step(problem, index, value, text)))
        written = read_result(text)
        if kind < mix.bad_shapes or written is None:
            break
        value = written
    prompt, *steps = encode(texts)
    judged = Judged(prompt, [IGNORED] * len(prompt))
    for step, label in zip(steps, labels[1:], strict=True):
        judged.add(step, label)
    return judged


def draw_judged_equations(rng: random.Random, count: int) -> list[Judged]:
    """Draw unrelated equations, half of them with wrong results, each a sequence of its own."""
    texts, labels = [], []
    for _ in range(count):
        left, result = draw_equation(rng)
        label = rng.choice((BAD, GOOD))
        written = result if label == GOOD else draw_wrong_number(rng, result)
        texts.append(f"{left} {written}{rng.choice(THINGS)}.")
        labels.append(label)
    judged = [Judged([], []) for _ in texts]
    for row, tokens, label in zip(judged, encode(texts), labels, strict=True):
        row.add(tokens, label)
    return judged


def label_loss(model: Qwen2ForProcessRewardModel, batch: list[Judged]) -> tuple[torch.Tensor, float]:
    """Return the cross entropy and the accuracy of a batch at its `<extra_0>` tokens."""
    tokens = pad_right([judged.tokens for judged in batch], token_ids()[PAD])
    labels = pad_right([judged.labels for judged in batch], IGNORED)
    rows = labels != IGNORED
    logits = model(input_ids=tokens, use_cache=False).logits[rows]
    accuracy = (logits.detach().argmax(-1) == labels[rows]).float().mean().item()
    return functional.cross_entropy(logits, labels[rows], weight=torch.tensor(LABEL_WEIGHTS)), accuracy
