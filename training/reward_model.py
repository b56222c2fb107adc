"""The PRM: the clean draft's backbone and planted layers, which judge each step at its `<extra_0>` token.

Labels are local: a step is right if it follows from the prompt and from the value that the previous step wrote. While
it trains, each token of a step has a label: whether the step can still become right. The backbone is the draft's before
its mistakes, since it tells right from wrong tokens better than the target's: its own mistakes are not the target's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from gsi.engines.on_transformers.qwen2_prm import Qwen2ForProcessRewardModel
from training.codes import learn_codes, read_steps_as_written
from training.comparison import FRESH_LAYERS, compute_width, plant_comparison
from training.grading import Judged, Tokens, grade_tokens, place_steps
from training.language_model import IGNORED, draw_equation, pad_right
from training.mistakes import Place, bad_shape, right_step, wrong_number
from training.optimise import optimise
from training.recipe import Recipe, Shape, count_sequences
from training.rollouts import sample_solutions
from training.task import (
    MAX_EVENTS,
    MIN_EVENTS,
    Problem,
    draw_distinct_problems,
    draw_problem,
    draw_wrong_number,
    read_result,
)
from training.tokenizer import PAD, STEP_REWARD, encode, prompt_text, prompt_tokens, token_ids
from training.words import THINGS

ROLLOUT_TEMPERATURES = (0.7, 1.0)
LABEL_WEIGHTS = (1.0, 2.0)  # wrong, right: lenient in doubt, as low scores of right steps mislead best-of-n most
TOKEN_WEIGHT = 0.3  # of a token before `<extra_0>`: they are many
ENDING = 4  # tokens of an equation that a wrong result spoils: the result, the things, the dot, `<extra_0>`
NUM_SAMPLES = 40  # solutions that set the scales of the planted layers


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix of training data in a phase, as shares."""

    equations: float  # share of batches with single equations
    rollouts: float  # share of sampled solutions among solutions; the others have deliberate mistakes
    wrong_numbers: float  # share of steps with a wrong number, in solutions with deliberate mistakes
    bad_shapes: float  # share of steps with another mistake, in the same solutions; such a step ends its solution


SOLUTIONS = Mix(equations=0.3, rollouts=0.5, wrong_numbers=0.3, bad_shapes=0.08)
SHAPES = Mix(equations=0.0, rollouts=0.2, wrong_numbers=0.2, bad_shapes=0.3)


def train_reward_model(
    solver: Qwen2ForCausalLM, rollouts: list[Judged], family: Recipe, rng: random.Random
) -> Qwen2ForProcessRewardModel:
    """Return a PRM that starts from the weights of a solver, which must not have learned mistakes."""
    model = grow_reward_model(solver, rollouts, family, rng)
    recipe = family.reward
    freeze_comparison(model)
    train_on(model, SOLUTIONS, recipe.solution_steps, recipe.solution_rate, "prm: problems", rollouts, family, rng)
    train_on(model, SHAPES, recipe.shape_steps, recipe.shape_rate, "prm: shapes", rollouts, family, rng)
    return model


def grow_reward_model(
    solver: Qwen2ForCausalLM, rollouts: list[Judged], family: Recipe, rng: random.Random
) -> Qwen2ForProcessRewardModel:
    """Return the solver's backbone with layers that compare what it expects with what came."""
    recipe = family.reward.codes
    reader = read_steps_as_written(solver)
    written = [
        draw_judged_solution(rng, SOLUTIONS if rng.random() < 0.5 else SHAPES, rng.randint(MIN_EVENTS, MAX_EVENTS))
        for _ in range(recipe.solutions)
    ]
    codes = learn_codes(reader, [*written, *rollouts, *draw_judged_equations(rng, recipe.equations)], recipe)
    base = family.draft.shape
    shape = Shape(compute_width(base.hidden), base.layers + FRESH_LAYERS, base.intermediate)
    samples = pad_right([judged.tokens for judged in rollouts[:NUM_SAMPLES]], token_ids()[PAD])
    return plant_comparison(reader, shape, codes, samples, samples != token_ids()[PAD])


def freeze_comparison(model: Qwen2ForProcessRewardModel) -> None:
    """Let only the last two layers and the head learn: small changes of the others blur the comparison."""
    model.requires_grad_(False)
    for layer in model.model.layers[1 - FRESH_LAYERS :]:
        layer.self_attn.requires_grad_(True)
        layer.mlp.requires_grad_(True)
    model.score.requires_grad_(True)


def train_on(
    model: Qwen2ForProcessRewardModel,
    mix: Mix,
    steps: int,
    rate: float,
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

    optimise(model, batch_loss, steps, rate, name)


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
    for index, value, step in place_steps(problem, solution):
        judged.add(step, grade_tokens(problem, index, value, step))
    return judged


def draw_judged_solution(rng: random.Random, mix: Mix, num_events: int) -> Judged:
    """Draw a training problem and a solution with mistakes. The next step starts from a wrong result."""
    problem = draw_problem(rng, "train", num_events)
    value, texts, values = problem.start, [prompt_text(problem)], [problem.start]
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
        texts.append(text + STEP_REWARD)
        written = read_result(text)
        if kind < mix.bad_shapes or written is None:
            break
        value = written
        values.append(value)
    prompt, *steps = map(tuple, encode(texts))
    judged = Judged([*prompt], [IGNORED] * len(prompt))
    for index, (value, step) in enumerate(zip(values, steps, strict=False), start=1):
        judged.add(step, grade_tokens(problem, index, value, step))
    return judged


def draw_judged_equations(rng: random.Random, count: int) -> list[Judged]:
    """Draw unrelated equations, half of them with wrong results, each a sequence of its own."""
    texts, labels = [], []
    for _ in range(count):
        left, result = draw_equation(rng)
        is_right = rng.random() < 0.5
        written = result if is_right else draw_wrong_number(rng, result)
        texts.append(f"{left} {written}{rng.choice(THINGS)}.{STEP_REWARD}")
        labels.append(is_right)
    judged = [Judged([], []) for _ in texts]
    for row, tokens, is_right in zip(judged, encode(texts), labels, strict=True):
        row.add(tuple(tokens), [*[True] * (len(tokens) - ENDING), *[is_right] * ENDING])
    return judged


def label_loss(model: Qwen2ForProcessRewardModel, batch: list[Judged]) -> tuple[torch.Tensor, float]:
    """Return the cross entropy of a batch, and its accuracy at the `<extra_0>` tokens."""
    tokens = pad_right([judged.tokens for judged in batch], token_ids()[PAD])
    labels = pad_right([judged.labels for judged in batch], IGNORED)
    rows = labels != IGNORED
    logits, labels = model(input_ids=tokens, use_cache=False).logits[rows], labels[rows]
    is_end = tokens[rows] == token_ids()[STEP_REWARD]
    weights = torch.tensor(LABEL_WEIGHTS)[labels] * torch.where(is_end, 1.0, TOKEN_WEIGHT)
    losses = functional.cross_entropy(logits, labels, reduction="none")
    accuracy = (logits.detach().argmax(-1) == labels)[is_end].float().mean().item()
    return (losses * weights).sum() / weights.sum(), accuracy
