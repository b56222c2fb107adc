"""The PRM: the clean target's backbone and a fresh layer, which judge each step at its `<extra_0>` token.

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
from training.language_model import IGNORED, PACK_LENGTH, make_qwen2_config, pad_right
from training.mistakes import Place, bad_shape, right_step, wrong_result
from training.optimise import optimise
from training.recipe import Recipe
from training.rollouts import sample_solutions
from training.task import (
    MAX_OPERATIONS,
    MODULUS,
    STYLE_WORDS,
    Problem,
    draw_distinct_problems,
    draw_operation,
    draw_problem,
    draw_wrong_result,
    grade_step,
    read_result,
    step_pieces,
)
from training.tokenizer import PAD, STEP_REWARD, encode_pieces, piece_ids, prompt_tokens

ROLLOUT_TEMPERATURES = (0.7, 1.0)
BAD, GOOD = 0, 1
LABEL_WEIGHTS = (1.0, 3.0)  # lenient in doubt: low scores of right steps mislead best-of-n most


@dataclass(frozen=True, slots=True)
class Mix:
    """The mix of training data in a phase, as shares."""

    pack_only: float  # share of the training steps with packs only: on chains alone the loss stays on its plateau
    packs: float  # share of packs in later batches
    rollouts: float  # share of sampled solutions among chains; the other chains have deliberate mistakes
    wrong_results: float  # share of steps with a wrong result, in chains with deliberate mistakes
    bad_shapes: float  # share of steps with another mistake, in the same chains; such a step ends its chain


ARITHMETIC = Mix(pack_only=0.45, packs=0.3, rollouts=0.5, wrong_results=0.3, bad_shapes=0.08)
SHAPES = Mix(pack_only=0.0, packs=0.0, rollouts=0.2, wrong_results=0.2, bad_shapes=0.3)


@dataclass(frozen=True, slots=True)
class Judged:
    """One training sequence: token ids, and a label at each `<extra_0>` (IGNORED elsewhere)."""

    tokens: list[int]
    labels: list[int]

    def add(self, step: list[int], label: int) -> None:
        """Append a step without its stop token, and its label."""
        self.tokens.extend([*step, piece_ids()[STEP_REWARD]])
        self.labels.extend([*[IGNORED] * len(step), label])


def train_reward_model(
    solver: Qwen2ForCausalLM, rollouts: list[Judged], family: Recipe, rng: random.Random
) -> Qwen2ForProcessRewardModel:
    """Return a PRM that starts from the weights of a solver, which must not have learned mistakes."""
    model = grow_reward_model(solver, family)
    recipe = family.reward
    train_on(model, ARITHMETIC, recipe.arithmetic_steps, "prm: arithmetic", rollouts, family, rng)
    train_on(model, SHAPES, recipe.shape_steps, "prm: shapes", rollouts, family, rng)
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
    packs_until = round(mix.pack_only * steps)

    def draw() -> Judged:
        return rng.choice(rollouts) if rng.random() < mix.rollouts else draw_judged_chain(rng, mix)

    def batch_loss(step: int) -> tuple[torch.Tensor, float]:
        if step < packs_until or rng.random() < mix.packs:
            return label_loss(model, [draw_judged_pack(rng) for _ in range(family.sequences)])
        return label_loss(model, [draw() for _ in range(family.sequences)])

    optimise(model, batch_loss, steps, family.reward_rate, name)


def grow_reward_model(solver: Qwen2ForCausalLM, family: Recipe) -> Qwen2ForProcessRewardModel:
    """Return the solver's backbone with additional fresh layers and a fresh head."""
    shape = family.target.shape
    config = make_qwen2_config(replace(shape, layers=shape.layers + family.reward.extra_layers))
    config.num_labels = NUM_LABELS
    model = Qwen2ForProcessRewardModel(config)
    model.model.load_state_dict(solver.model.state_dict(), strict=False)
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
    judged = _empty(problem)
    for step, is_right in grade_solution(problem, solution):
        judged.add(list(step[:-1]), int(is_right))
    return judged


def draw_judged_chain(rng: random.Random, mix: Mix) -> Judged:
    """Draw a training problem and a solution with mistakes. The next step starts from a wrong result."""
    problem = draw_problem(rng, "train")
    judged, value = _empty(problem), problem.start
    for index in range(1, len(problem.operations) + 2):
        place = Place(problem, index, value)
        kind = rng.random()
        if kind < mix.bad_shapes:
            pieces = bad_shape(place, rng)
        elif kind < mix.bad_shapes + mix.wrong_results:
            pieces = wrong_result(place, rng)
        else:
            pieces = right_step(place, rng)
        text = "".join(pieces)
        judged.add(encode_pieces(pieces), int(grade_step(problem, index, value, text)))
        written = read_result(text)
        if kind < mix.bad_shapes or written is None:
            break
        value = written
    return judged


def draw_judged_pack(rng: random.Random) -> Judged:
    """Draw unrelated single steps, half of them with wrong results."""
    judged = Judged([], [])
    for _ in range(PACK_LENGTH):
        value, operation = rng.randrange(MODULUS), draw_operation(rng)
        result, label = operation.apply(value), GOOD
        if rng.random() < 0.5:
            result, label = draw_wrong_result(rng, result), BAD
        word = rng.choice(("", *STYLE_WORDS))
        step = step_pieces(rng.randint(1, MAX_OPERATIONS), value, operation, result, word)
        judged.add(encode_pieces(step), label)
    return judged


def label_loss(model: Qwen2ForProcessRewardModel, batch: list[Judged]) -> tuple[torch.Tensor, float]:
    """Return the cross entropy and the accuracy of a batch at its `<extra_0>` tokens."""
    tokens = pad_right([judged.tokens for judged in batch], piece_ids()[PAD])
    labels = pad_right([judged.labels for judged in batch], IGNORED)
    rows = labels != IGNORED
    logits = model(input_ids=tokens, use_cache=False).logits[rows]
    accuracy = (logits.detach().argmax(-1) == labels[rows]).float().mean().item()
    return functional.cross_entropy(logits, labels[rows], weight=torch.tensor(LABEL_WEIGHTS)), accuracy


def _empty(problem: Problem) -> Judged:
    tokens = prompt_tokens(problem)
    return Judged(tokens, [IGNORED] * len(tokens))
