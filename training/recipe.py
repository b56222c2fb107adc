"""The recipe: every number that shapes the family, with the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.task import Style


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a Qwen2 backbone. A head has 32 dimensions, the smallest size that vLLM's CPU build runs."""

    hidden: int
    layers: int
    intermediate: int

    @property
    def heads(self) -> int:
        """Return the number of attention heads."""
        return self.hidden // 32


@dataclass(frozen=True, slots=True)
class LanguageRecipe:
    """How one language model is trained: a drill, then whole problems, then on mistakes.

    Learning the task is a phase transition, so early stopping cannot set an error rate; label noise can.
    """

    shape: Shape
    first_style: Style  # the wording while it learns: milder, so that no wording stays unknown
    style: Style  # the wording in the last phase
    noise: float  # share of steps with a wrong number in the last phase; sampling at T = 0.7 gives fewer
    drill_steps: int  # single equations, answers and lookups
    problem_steps: int  # mostly whole problems
    noise_steps: int


@dataclass(frozen=True, slots=True)
class GrowthRecipe:
    """How the shallow target becomes the deep one.

    The depth is chosen for its cost, not for its quality: a deep and narrow model writes slowly and scores fast, as a
    large model does on a GPU. Training it from the start would cost six times as much.
    """

    layers: int
    steps: int  # on mistakes
    rate: float = 5e-5  # low: the inserted layers must not drown what the model knows


@dataclass(frozen=True, slots=True)
class CodeRecipe:
    """How the tokens' codes are learned, by which the PRM compares."""

    solutions: int = 2500
    equations: int = 80_000  # many: a number's code sees each wrong number before it has a use
    steps: int = 3000
    rate: float = 0.02


@dataclass(frozen=True, slots=True)
class RewardRecipe:
    """How the PRM is trained, from the clean draft's backbone and planted layers."""

    codes: CodeRecipe
    solution_steps: int  # few, since the planted layers already judge nearly as well
    shape_steps: int  # training on steps with a wrong word, amount or ending
    num_rollouts: int  # solutions sampled from each language model at each temperature
    solution_rate: float = 3e-4
    shape_rate: float = 2e-4


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole family's recipe."""

    draft: LanguageRecipe
    target: LanguageRecipe
    growth: GrowthRecipe
    reward: RewardRecipe
    equations: int = 256  # per batch
    batch_tokens: int = 2000  # of whole problems with their solutions per batch, about
    learn_rate: float = 2e-3
    noise_rate: float = 5e-4  # low, so that the model forgets nothing


# The difference in wording is deliberate. The draft words most steps that multiply or count groups in a way that the
# target hardly ever chooses, so some right candidates are unlikely under the target, and GSI must resample them
# (acceptance below 1).
FIRST_DRAFT_STYLE: Style = {
    "+": {"Then on": 1.0, "Next, on": 0.3, ", which means that": 0.5, " in all.": 0.5},
    "-": {"Then on": 1.0, "Next, on": 0.3, ", which means that": 0.5, " left.": 0.5},
    "*": {"Then on": 0.1, "Next, on": 8.0, ", which means that": 4.0, " in all.": 0.5},
}
FIRST_TARGET_STYLE: Style = {
    "+": {"Then on": 0.5, "Next, on": 0.1, ", which means that": 0.2, " has": 0.3},
    "-": {"Then on": 0.5, "Next, on": 0.1, ", which means that": 0.2, " has": 0.3},
    "*": {"Then on": 0.5, "Next, on": 0.02, ", which means that": 0.2, " has": 0.3},
}
DRAFT_STYLE: Style = {
    "+": {"Then on": 0.4, "Next, on": 1.4, ", which means that": 0.5, " has": 0.5},
    "-": {"Then on": 1.0, "Next, on": 0.1, ", which means that": 0.5, " has": 0.5},
    "*": {"Then on": 0.2, "Next, on": 8.0, ", which means that": 3.0, " has": 0.5},
}
TARGET_STYLE: Style = {
    "+": {"Then on": 0.5, "Next, on": 0.01, ", which means that": 0.2, " has": 0.3},
    "-": {"Then on": 0.5, "Next, on": 0.1, ", which means that": 0.2, " has": 0.3},
    "*": {"Then on": 0.5, "Next, on": 0.004, ", which means that": 0.2, " has": 0.3},
}

FULL_RECIPE = Recipe(
    draft=LanguageRecipe(
        Shape(96, 2, 256),
        FIRST_DRAFT_STYLE,
        DRAFT_STYLE,
        noise=0.3,
        drill_steps=1800,
        problem_steps=1600,
        noise_steps=300,
    ),
    target=LanguageRecipe(
        Shape(128, 4, 384),
        FIRST_TARGET_STYLE,
        TARGET_STYLE,
        noise=0.12,
        drill_steps=1700,
        problem_steps=1000,
        noise_steps=250,
    ),
    growth=GrowthRecipe(layers=24, steps=100),
    reward=RewardRecipe(CodeRecipe(), solution_steps=150, shape_steps=100, num_rollouts=512),
)


def count_sequences(family: Recipe, num_events: int) -> int:
    """Return how many problems with `num_events` events fill a batch: a prompt has 30 to 70 tokens, a step 20."""
    return family.batch_tokens // (30 + 28 * num_events)


def shorten(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe with a share of its steps, for testing the code: the files are right, the models poor."""

    def cut(steps: int) -> int:
        return max(2, round(steps * share))

    def cut_language(part: LanguageRecipe) -> LanguageRecipe:
        return replace(
            part,
            drill_steps=cut(part.drill_steps),
            problem_steps=cut(part.problem_steps),
            noise_steps=cut(part.noise_steps),
        )

    reward = replace(
        recipe.reward,
        codes=replace(
            recipe.reward.codes,
            solutions=cut(recipe.reward.codes.solutions),
            equations=cut(recipe.reward.codes.equations),
            steps=cut(recipe.reward.codes.steps),
        ),
        solution_steps=cut(recipe.reward.solution_steps),
        shape_steps=cut(recipe.reward.shape_steps),
        num_rollouts=cut(recipe.reward.num_rollouts),
    )
    growth = replace(recipe.growth, steps=cut(recipe.growth.steps))
    draft, target = cut_language(recipe.draft), cut_language(recipe.target)
    return replace(recipe, draft=draft, target=target, growth=growth, reward=reward)
