"""The recipe: every number that shapes the family, in one place, with the reason for its value."""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.task import Style


@dataclass(frozen=True, slots=True)
class Shape:
    """Hold the size of a Qwen2 backbone; a head has 32 dimensions, the least that vLLM's CPU build runs."""

    hidden: int
    layers: int
    intermediate: int

    @property
    def heads(self) -> int:
        """Return the number of attention heads."""
        return self.hidden // 32


@dataclass(frozen=True, slots=True)
class LanguageRecipe:
    """Hold how one language model is trained: arithmetic, then whole problems, then to make mistakes.

    Learning the task is a phase transition, so an error rate cannot be set by stopping early; label noise can.
    """

    shape: Shape
    style: Style
    noise: float  # share of wrong results in the last phase; sampling at T = 0.7 shows fewer
    learn_steps: int  # packs of single steps first, then mostly whole problems
    settle_steps: int  # as before with weight on the operands: the draft is slow to see which one is due
    noise_steps: int


@dataclass(frozen=True, slots=True)
class RewardRecipe:
    """Hold how the PRM is trained: the clean target's backbone, one fresh layer, then the head."""

    extra_layers: int
    arithmetic_steps: int  # few: more make it near perfect, and then nothing is left for the target to add
    shape_steps: int  # then steps with a wrong number, operand or ending
    num_rollouts: int  # solutions sampled from each language model at each temperature


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold the whole family's recipe."""

    draft: LanguageRecipe
    target: LanguageRecipe
    reward: RewardRecipe
    sequences: int = 24  # a batch
    learn_rate: float = 2e-3
    settle_rate: float = 1.5e-3
    noise_rate: float = 5e-4  # low, so that nothing learned is lost
    reward_rate: float = 1e-3


# The divergence in wording is engineered. The draft opens most `*` steps with a word that the target never writes,
# so that some right candidates are unlikely under the target and GSI must resample them (acceptance below 1).
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


def shortened(recipe: Recipe, share: float) -> Recipe:
    """Return the recipe with that share of its steps: right files, poor models, for trying the code."""

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
