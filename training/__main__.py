"""Train draft, target and PRM from one seed, measure them, and write `models/` (`make train`)."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from transformers import GenerationConfig, PreTrainedModel, Qwen2ForCausalLM
from transformers.utils import logging

from training.cards import Measured, write_card
from training.evaluate import (
    CANDIDATE_COUNTS,
    METHODS,
    load_family,
    load_language_model,
    measure_depth,
    measure_quality,
    run_method,
)
from training.language_model import teach_mistakes, train_deep, train_solver
from training.probe import measure_rejections
from training.recipe import FULL_RECIPE, LanguageRecipe, Recipe, shorten
from training.reward_model import collect_rollouts, train_reward_model
from training.task import draw_distinct_problems
from training.tokenizer import PAD, TURN_END, save_tokenizer, token_ids

NUM_HELDOUT = 500  # 24 for the demo, then the benchmarks'
NUM_VALIDATION = 150
HELDOUT_FILE = "heldout.jsonl"
ROLES = ("draft", "target", "prm")
SHALLOW = "shallow-target"  # as good, and cheap: tests use it where only the target's answers count

console = Console()


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments on the command line."""

    seed: int
    output: Path
    share: float


def main() -> None:
    """Train in a temporary folder and then move the models, so that `models/` is never half written."""
    arguments = parse_arguments()
    prepare_torch()
    recipe = shorten(FULL_RECIPE, arguments.share) if arguments.share < 1 else FULL_RECIPE
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.output, prefix=".training-") as scratch:
        folder = Path(scratch)
        seconds = train_family(recipe, arguments.seed, folder)
        write_heldout(folder / HELDOUT_FILE, arguments.seed)
        measure_family(folder, arguments, seconds)
        publish(folder, arguments.output)
    console.print(f"Wrote {', '.join((*ROLES, SHALLOW))} and {HELDOUT_FILE} to {arguments.output}.")


def parse_arguments() -> Arguments:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description="Train the small family.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("models"))
    parser.add_argument(
        "--share", type=float, default=1.0, help="share of the training steps; below 1 only tests the code"
    )
    given = parser.parse_args()
    return Arguments(given.seed, given.output, given.share)


def prepare_torch() -> None:
    """Make results depend on the seed only: deterministic algorithms, and one thread, so one order of rounding."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def seed_phase(seed: int, phase: str) -> random.Random:
    """Seed torch and return a generator for a phase, so that no phase depends on the draws of another phase."""
    rng = random.Random(f"{seed} {phase}")
    torch.manual_seed(seed)
    return rng


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Note how long the block takes."""
    started = time.monotonic()
    yield
    seconds[name] = time.monotonic() - started


def train_family(recipe: Recipe, seed: int, folder: Path) -> dict[str, float]:
    """Train and save all three models and the shallow target; return the seconds for each."""
    seconds: dict[str, float] = {}
    with timed(seconds, "draft"):
        solver, draft = train_language_model(recipe.draft, recipe, "draft", seed)
        save_model(draft, folder / "draft")
    with timed(seconds, SHALLOW):
        _, shallow = train_language_model(recipe.target, recipe, "target", seed)
        save_model(shallow, folder / SHALLOW)
    with timed(seconds, "target"):
        save_model(train_deep(shallow, recipe, seed_phase(seed, "growth")), folder / "target")
    seconds["target"] += seconds[SHALLOW]
    with timed(seconds, "prm"):
        saved = [Qwen2ForCausalLM.from_pretrained(folder / name, dtype=torch.float32) for name in ("draft", SHALLOW)]
        rng = seed_phase(seed, "prm")
        rollouts = collect_rollouts(saved, recipe, rng)
        save_model(train_reward_model(solver, rollouts, recipe, rng), folder / "prm")
    return seconds


def train_language_model(
    part: LanguageRecipe, recipe: Recipe, role: str, seed: int
) -> tuple[Qwen2ForCausalLM, Qwen2ForCausalLM]:
    """Return the solver without mistakes, from which the PRM grows, and the language model that makes mistakes."""
    solver = train_solver(part, recipe, role, seed_phase(seed, role))
    model = Qwen2ForCausalLM(solver.config)
    model.load_state_dict(solver.state_dict())
    teach_mistakes(model, part, recipe, role, seed_phase(seed, f"{role} mistakes"))
    return solver, model


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write a model in bfloat16 with its tokenizer, without changing the given model."""
    ids = token_ids()
    stored = type(model)(model.config)
    stored.load_state_dict(model.state_dict())
    stored.to(torch.bfloat16).save_pretrained(folder)
    generation = GenerationConfig(
        eos_token_id=[ids[TURN_END], ids[PAD]], pad_token_id=ids[PAD], do_sample=True, temperature=0.7
    )
    generation.save_pretrained(folder)
    save_tokenizer(folder)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors makes files that only the owner can read


def write_heldout(path: Path, seed: int) -> None:
    """Write the problems that no model has seen, one JSON object per line."""
    problems = draw_distinct_problems(random.Random(f"{seed} heldout"), NUM_HELDOUT, "heldout")
    lines = [json.dumps({"prompt": problem.prompt, "expected": str(problem.answer)}) for problem in problems]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def measure_family(folder: Path, arguments: Arguments, seconds: dict[str, float]) -> None:
    """Measure the saved models, including their rounding to bfloat16, and write their cards."""
    family = load_family(folder)
    problems = draw_distinct_problems(random.Random(f"{arguments.seed} measure"), NUM_VALIDATION, "validation")
    outcomes = {
        name: {n: run_method(family, method, problems, n, arguments.seed) for n in CANDIDATE_COUNTS}
        for name, method in METHODS.items()
    }
    shallow = replace(family, target=load_language_model(folder / SHALLOW))
    measured = Measured(
        draft=measure_quality(family.draft, family.prm, problems, arguments.seed),
        target=measure_quality(family.target, family.prm, problems, arguments.seed),
        outcomes=outcomes,
        depths=[measure_depth(each, problems, arguments.seed) for each in (shallow, family)],
        rejected=measure_rejections(family.prm, problems, random.Random(f"{arguments.seed} probe")),
        num_problems=len(problems),
        seed=arguments.seed,
        command=f"python -m training --seed {arguments.seed}",
    )
    models = {role: getattr(family, role) for role in ROLES} | {SHALLOW: shallow.target}
    write_cards(folder, models, seconds, measured)


def write_cards(
    folder: Path, models: dict[str, PreTrainedModel], seconds: dict[str, float], measured: Measured
) -> None:
    """Write `README.md` beside each model."""
    for name, model in models.items():
        parameters = sum(weights.numel() for weights in model.parameters())
        card = write_card(name, parameters, seconds[name], measured)
        (folder / name / "README.md").write_text(card, encoding="utf-8")


def publish(folder: Path, output: Path) -> None:
    """Replace the models in the output folder by the new models."""
    for name in (*ROLES, SHALLOW):
        shutil.rmtree(output / name, ignore_errors=True)
        (folder / name).rename(output / name)
    (folder / HELDOUT_FILE).replace(output / HELDOUT_FILE)


if __name__ == "__main__":
    main()
