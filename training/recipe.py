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
    """How one language model is trained: on arithmetic, then on whole problems, then on mistakes.

    Learning the task is a phase transition, so early stopping cannot set an error rate; label noise can.
    """

    shape: Shape
    style: Style
    noise: float  # share of wrong results in the last phase; sampling at T = 0.7 gives fewer
    learn_steps: int  # packs of single steps first, then mostly whole problems
    settle_steps: int  # mostly whole problems, with more weight on operands: the draft learns slowly which one is due
    noise_steps: int


@dataclass(frozen=True, slots=True)
class RewardRecipe:
    """How the PRM is trained, from the clean target's backbone, a fresh layer and a fresh head."""

    extra_layers: int
    arithmetic_steps: int  # few: more make the PRM nearly perfect, and the target would add nothing
    shape_steps: int  # training on steps with a wrong number, operand or ending
    num_rollouts: int  # solutions sampled from each language model at each temperature


@dataclass(frozen=True, slots=True)
class Recipe:
    """The whole family's recipe."""

    draft: LanguageRecipe
    target: LanguageRecipe
    reward: RewardRecipe
    sequences: int = 24  # per batch
    learn_rate: float = 2e-3
    settle_rate: float = 1.5e-3
    noise_rate: float = 5e-4  # low, so that the model forgets nothing
    reward_rate: float = 1e-3


# The difference in wording is deliberate. The draft starts most `*` steps with a word that the target never writes, so
# some right candidates are unlikely under the target, and GSI must resample them (acceptance below 1).
DRAFT_STYLE: Style = {"*": ("Next ", 0.85), "+": ("Then ", 0.40), "-": ("Then ", 0.40)}
TARGET_STYLE: Style = {"+": ("Then ", 0.15), "-": ("Then ", 0.15)}

FULL_RECIPE = Recipe(
    draft=LanguageRecipe(
        Shape(96, 2, 256), DRAFT_STYLE, noise=0.38, learn_steps=3000, settle_steps=1200, noise_steps=500
    ),
    target=LanguageRecipe(
        Shape(192, 2, 512), TARGET_STYLE, noise=0.11, learn_steps=2800, settle_steps=0, noise_steps=400
    ),
    reward=RewardRecipe(extra_layers=1, arithmetic_steps=520, shape_steps=900, num_rollouts=1024),
)


def shorten(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe with a share of its steps, for testing the code: the files are right, the models poor."""

    def cut(steps: int) -> int:
        return max(2, round(steps * share))

    def cut_language(part: LanguageRecipe) -> LanguageRecipe:
        return replace(
            part,
            learn_steps=cut(part.learn_steps),
            settle_steps=cut(part.settle_steps),
            noise_steps=cut(part.noise_steps),
        )

    reward = replace(
        recipe.reward,
        arithmetic_steps=cut(recipe.reward.arithmetic_steps),
        shape_steps=cut(recipe.reward.shape_steps),
        num_rollouts=cut(recipe.reward.num_rollouts),
    )
    return replace(recipe, draft=cut_language(recipe.draft), target=cut_language(recipe.target), reward=reward)
