"""Draft and target: two Qwen2 language models that first solve the task, then learn to make mistakes."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn
from torch.nn import functional
from transformers import Qwen2Config, Qwen2ForCausalLM
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from training.induction import plant_induction_head
from training.optimise import optimise
from training.recipe import LanguageRecipe, Recipe, Shape, count_sequences
from training.task import (
    MAX_EVENTS,
    MIN_EVENTS,
    Style,
    draw_event,
    draw_groups,
    draw_problem,
    draw_verb,
    is_possible,
    solve,
    write_answer,
)
from training.tokenizer import MAX_POSITIONS, PAD, TURN_END, VOCABULARY_SIZE, encode, prompt_text, token_ids
from training.words import DAYS, ENDINGS, MAX_NUMBER, STEP_DELIMITER, THINGS

DRILL_SHARES = (0.62, 0.08, 0.30)  # of batches with equations, answers and lookups
PROBLEM_SHARE = 0.6  # of batches with whole problems, after the drill; the others go on drilling
NUM_ANSWERS = 80  # in a batch of answers
LOOKUP_TOKENS = 900  # in a batch of lookups
LOOKUP_ROUNDS = 4  # how often each event of a lookup is told
TOKENS_PER_EVENT = 8
PRODUCT_SHARE = 0.15  # share of `4 * 5 = 20` among the equations
HARD_WEIGHT = 3.0  # a result's weight in the loss
IGNORED = -100  # the label that cross entropy ignores


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence: its token ids and each token's weight as a label."""

    tokens: list[int]
    weights: list[float]


def make_qwen2_config(shape: Shape) -> Qwen2Config:
    """Return the configuration of a small Qwen2 backbone with tied input and output embeddings."""
    ids = token_ids()
    return Qwen2Config(
        vocab_size=VOCABULARY_SIZE,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=shape.hidden**-0.5,  # the usual 0.02 is for large models: here nothing would be said at first
        eos_token_id=ids[TURN_END],
        pad_token_id=ids[PAD],
        bos_token_id=None,
    )


def train_solver(recipe: LanguageRecipe, family: Recipe, name: str, rng: random.Random) -> Qwen2ForCausalLM:
    """Return a model that solves the task without mistakes.

    A drill comes first: what it teaches would hardly be learned from whole problems alone.
    """
    model = Qwen2ForCausalLM(make_qwen2_config(recipe.shape))
    plant_induction_head(model)

    def drill_loss(_step: int) -> tuple[torch.Tensor, float]:
        return weighted_loss(model, draw_drill(rng, family))

    def problem_loss(_step: int) -> tuple[torch.Tensor, float]:
        if rng.random() >= PROBLEM_SHARE:
            return weighted_loss(model, draw_drill(rng, family))
        num_events = rng.randint(MIN_EVENTS, MAX_EVENTS)
        return weighted_loss(model, draw_solutions(rng, family, num_events, recipe.first_style))

    optimise(model, drill_loss, recipe.drill_steps, family.learn_rate, f"{name}: drill")
    optimise(model, problem_loss, recipe.problem_steps, family.learn_rate, f"{name}: problems")
    return model


def teach_mistakes(
    model: Qwen2ForCausalLM, recipe: LanguageRecipe, family: Recipe, name: str, rng: random.Random
) -> None:
    """Fine-tune a solver in place on solutions with wrong numbers."""
    _teach(model, recipe, family, rng, recipe.noise_steps, family.noise_rate, f"{name}: mistakes")


def train_deep(shallow: Qwen2ForCausalLM, family: Recipe, rng: random.Random) -> Qwen2ForCausalLM:
    """Return the target at its full depth: grow the shallow one, which makes mistakes, and train it on."""
    model = grow(shallow, family.growth.layers)
    growth = family.growth
    _teach(model, family.target, family, rng, growth.steps, growth.rate, "target: growth")
    return model


def _teach(
    model: Qwen2ForCausalLM,
    recipe: LanguageRecipe,
    family: Recipe,
    rng: random.Random,
    steps: int,
    rate: float,
    name: str,
) -> None:
    def batch_loss(_step: int) -> tuple[torch.Tensor, float]:
        num_events = rng.randint(MIN_EVENTS, MAX_EVENTS)
        return weighted_loss(model, draw_solutions(rng, family, num_events, recipe.style, recipe.noise))

    optimise(model, batch_loss, steps, rate, name)


def grow(model: Qwen2ForCausalLM, layers: int) -> Qwen2ForCausalLM:
    """Return a copy with `layers` layers. The new layers are spread between the old ones, and begin as the identity."""
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layers
    config.layer_types = [model.config.layer_types[0]] * layers
    grown = Qwen2ForCausalLM(config)
    old = model.model.layers
    places = {(index + 1) * layers // len(old) - 1: layer for index, layer in enumerate(old)}
    with torch.no_grad():
        for index, layer in enumerate(grown.model.layers):
            if index in places:
                layer.load_state_dict(places[index].state_dict())
            else:
                begin_as_identity(layer)
        grown.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
        grown.model.norm.load_state_dict(model.model.norm.state_dict())
    return grown


def begin_as_identity(layer: Qwen2DecoderLayer) -> None:
    """Set a layer in place so that it adds nothing to what it is given, until it is trained."""
    nn.init.zeros_(layer.self_attn.o_proj.weight)
    nn.init.zeros_(layer.mlp.down_proj.weight)


def draw_drill(rng: random.Random, family: Recipe) -> list[Example]:
    """Draw a batch of one kind: equations, answers or lookups."""
    kind = rng.choices(("equations", "answers", "lookups"), DRILL_SHARES)[0]
    if kind == "equations":
        return draw_equations(rng, family.equations)
    return draw_answers(rng) if kind == "answers" else draw_lookups(rng)


def draw_answers(rng: random.Random) -> list[Example]:
    """Draw the ends of solutions. Before, a number is one token; in the box, each of its digits is one."""
    numbers = [rng.randint(0, MAX_NUMBER) for _ in range(NUM_ANSWERS)]
    ends = encode([f" = {number}{rng.choice(THINGS)}{rng.choice(ENDINGS['+'])}{STEP_DELIMITER}" for number in numbers])
    answers = encode([write_answer(number) + TURN_END for number in numbers])
    return [_make_example(end, answer) for end, answer in zip(ends, answers, strict=True)]


def draw_equations(rng: random.Random, count: int) -> list[Example]:
    """Draw unrelated equations, each a sequence of its own, as far as the result, which is the only label.

    Many short sequences teach arithmetic several times faster than equations in the midst of other text.
    """
    tokens = encode([f"{left} {result}" for left, result in (draw_equation(rng) for _ in range(count))])
    return [Example(row, [*[0.0] * (len(row) - 1), HARD_WEIGHT]) for row in tokens]


def draw_equation(rng: random.Random) -> tuple[str, int]:
    """Draw ` has 12 + 5 =` or ` is 3 * 4 =`, and its result."""
    if rng.random() < PRODUCT_SHARE:
        amount, groups = draw_groups(rng)
        return f" is {groups} * {amount} =", groups * amount
    while True:
        value, event = rng.randint(0, MAX_NUMBER), draw_event(rng, draw_verb(rng))
        if is_possible(event.apply(value)):
            return f" has {value} {event.verb.symbol} {event.operand} =", event.apply(value)


def draw_lookups(rng: random.Random) -> list[Example]:
    """Draw a batch of what happens on a few days, told several times, each time in another order."""
    num_events = rng.randint(2, len(DAYS))
    count = max(1, LOOKUP_TOKENS // (LOOKUP_ROUNDS * TOKENS_PER_EVENT * num_events))
    return [_draw_lookup(rng, num_events) for _ in range(count)]


def _draw_lookup(rng: random.Random, num_events: int) -> Example:
    """Draw one lookup. Labels are what happens, each time but the first; nothing tells which day comes next."""
    told = draw_problem(rng, "train", num_events).sentences[1:]
    order = [told, *(rng.sample(told, num_events) for _ in range(LOOKUP_ROUNDS - 1))]
    rows = encode([sentence for sentences in order for sentence in sentences])
    weights = [[0.0] * len(row) if index < num_events else _after_day(row) for index, row in enumerate(rows)]
    return Example([*chain.from_iterable(rows)], [*chain.from_iterable(weights)])


def _after_day(sentence: list[int]) -> list[float]:
    return [0.0, 0.0, *[1.0] * (len(sentence) - 2)]  # the first two tokens are ` On` and the day


def draw_solutions(
    rng: random.Random, family: Recipe, num_events: int, style: Style, noise: float = 0.0
) -> list[Example]:
    """Draw a batch of problems of the training split, all with `num_events` events, each with a solution.

    Nearly equal lengths need little padding. The prompts' tokens are not labels.
    """
    problems = [draw_problem(rng, "train", num_events) for _ in range(count_sequences(family, num_events))]
    prompts = encode([prompt_text(problem) for problem in problems])
    texts = [STEP_DELIMITER.join(solve(problem, rng, style, noise)) + TURN_END for problem in problems]
    return [_make_example(prompt, solution) for prompt, solution in zip(prompts, encode(texts), strict=True)]


def _make_example(prompt: list[int], solution: list[int]) -> Example:
    """Return a sequence of which the solution is the label, and the results and the answer are hard."""
    hard = {token_ids()[" ="], token_ids()[" \\boxed{"]}
    before = [prompt[-1], *solution[:-1]]
    weights = [HARD_WEIGHT if previous in hard else 1.0 for previous in before]
    return Example(prompt + solution, [0.0] * len(prompt) + weights)


def weighted_loss(model: Qwen2ForCausalLM, examples: list[Example]) -> tuple[torch.Tensor, float]:
    """Return the weighted cross entropy of a batch and the accuracy of its hard tokens.

    Padding is on the right, so the causal mask already hides it.
    """
    tokens = pad_right([example.tokens for example in examples], token_ids()[PAD])
    weights = pad_right([example.weights for example in examples], 0.0)[:, 1:]
    rows = weights > 0  # [batch, length - 1]
    hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden[rows])
    labels, weight = tokens[:, 1:][rows], weights[rows]
    losses = functional.cross_entropy(logits, labels, reduction="none")
    is_hard = weight == HARD_WEIGHT
    accuracy = (logits.detach().argmax(-1) == labels)[is_hard].float().mean().item()
    return (losses * weight).sum() / weight.sum(), accuracy


def pad_right(rows: list[list[int]] | list[list[float]], value: float) -> torch.Tensor:
    """Return rows of different length as one tensor [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows])
