"""Model cards for `models/<role>`, with the measured figures."""

from __future__ import annotations

from dataclasses import dataclass

from training.evaluate import ACCEPTANCE_THRESHOLD, BETA, TEMPERATURE, Depth, Outcome, Quality


@dataclass(frozen=True, slots=True)
class Measured:
    """All measured figures of one family."""

    draft: Quality
    target: Quality
    outcomes: dict[str, dict[int, Outcome]]  # method -> n -> outcome
    depths: list[Depth]  # the shallow target, then the shipped one
    rejected: dict[str, float]  # kind of step -> share that the PRM gives less than 0.5
    num_problems: int
    seed: int
    command: str


_TASK = """\
**Task.** Word problems in plain English, one sentence a reasoning step:

    On Sunday Mia has 12 shells. On Monday Tom brings her 3 bags of 4 shells. On Tuesday she loses 5 shells.
    On Wednesday she doubles the shells. How many shells does Mia have at the end?

is answered with `On Monday Tom brings her 3 bags of 4 shells, that is 3 * 4 = 12 shells, so Mia now has 12 + 12 =
24 shells.`, a blank line, `Then on Tuesday she loses 5 shells, and then Mia has 24 - 5 = 19 shells left.`, …,
`The answer is \\boxed{38}`. There are three to six events, no verb and no friend occurs twice, and a word, a pronoun
with its verb, or a number up to 99 is one token. It is a toy: the model knows nothing else, and it exists so that
Guided Speculative Inference can be run, tested and shown on a laptop without a download.

**The divergence in wording is engineered.** A step can be worded in several ways, and draft and target choose among
them with different weights (`DRAFT_STYLE` and `TARGET_STYLE` in `training/recipe.py`). That gives some right candidates
a low likelihood under the target, as two real models would, and makes the log-ratio term and the resampling visible.
"""


def write_card(role: str, parameters: int, seconds: float, measured: Measured) -> str:
    """Return the model card of `role` (draft, target, prm or shallow-target) as Markdown."""
    lines = [
        f"# The small family: {role}",
        "",
        _OPENING[role],
        "",
        _TASK,
        f"**Size.** {parameters:,} parameters, stored as bfloat16, Qwen2 architecture, head size 32.",
        "",
        _quality(role, measured),
        "",
        *([_depths(measured), ""] if role.endswith("target") else []),
        f"**Training.** `{measured.command}` from seed {measured.seed}; this model took {seconds:.0f} s on one CPU "
        "core. The optimiser's steps are counted, not timed: the same seed on the same machine gives the same model. "
        "Draft and target begin with two heads set as an induction head (`training/induction.py`), and drill "
        "equations, answers and lookups before whole problems. The PRM begins as the draft before its mistakes, with "
        "planted layers that compare each token with what that draft expected (`training/comparison.py`).",
        "",
        _table(measured),
        "",
    ]
    return "\n".join(lines)


_OPENING = {
    "draft": "The draft proposes candidate steps. It has learned to make mistakes: its results were trained with "
    "label noise.",
    "target": "The target scores the draft's candidates and resamples rejected steps. It makes few mistakes, also "
    "learned from label noise.",
    "shallow-target": "This model is the target before it was grown. It answers at least as well, and it costs less. "
    "Tests use it, and so may comparisons; the family's target is `../target`.",
    "prm": "The process reward model (PRM) judges a step at the `<extra_0>` token that follows it: its reward is "
    "`softmax(logits)[1]`. Join steps as Qwen2.5-Math-PRM does: each without its blank line, then `<extra_0>`. A "
    "label is local: is this step right given the value that the step before it wrote?",
}


def _quality(role: str, measured: Measured) -> str:
    if role == "prm":
        return (
            f"**Quality.** AUC {measured.draft.auc:.3f} on the draft's steps and {measured.target.auc:.3f} on the "
            f"target's (T = {TEMPERATURE}, {measured.num_problems} validation problems). It rejects (reward below "
            f"0.5) of steps made on purpose: {_rejected(measured)}. It misses "
            "most where a mistake shows only against the prompt; the small language models hardly ever write such "
            "steps."
        )
    if role == "shallow-target":
        return f"**Quality.** {measured.depths[0].alone:.1%} of its answers are right at T = {TEMPERATURE}."
    quality = measured.draft if role == "draft" else measured.target
    return (
        f"**Quality.** {quality.step_error:.1%} of its steps are wrong at T = {TEMPERATURE} "
        f"({measured.num_problems} validation problems)."
    )


def _depths(measured: Measured) -> str:
    """Return why the target is deep, and a row for each depth."""
    shallow, deep = measured.depths
    rows = [
        f"| {each.layers} | {each.alone:.3f} | {each.guided:.3f} | {each.best_of:.3f} | {each.seconds:.2f} |"
        for each in measured.depths
    ]
    opening = (
        f"**Depth.** The depth is chosen for its cost, not for its quality. A target of {shallow.layers} layers was "
        f"trained first; then layers that begin as the identity were inserted, and all {deep.layers} were trained on "
        "briefly. On a CPU, a deep and narrow model has the shape of cost that a large model has on a GPU: it writes "
        "one token after another slowly, and scores many tokens at once fast. The shallow target answers at least "
        "as well, for less:"
    )
    header = "| layers | plain sample | GSI, n = 4 | soft best-of-n, n = 4 | seconds of a plain sample |"
    return "\n".join([opening, "", header, "|---|---|---|---|---|", *rows])


def _rejected(measured: Measured) -> str:
    return ", ".join(f"{kind} {share:.0%}" for kind, share in measured.rejected.items())


def _table(measured: Measured) -> str:
    """Return the table of methods: accuracy, and the share of accepted steps in brackets."""
    counts = sorted(next(iter(measured.outcomes.values())))
    header = [f"| method | {' | '.join(f'n = {n}' for n in counts)} |", "|---" * (len(counts) + 1) + "|"]
    rows = [
        f"| {name} | " + " | ".join(_cell(by_count[n], name) for n in counts) + " |"
        for name, by_count in measured.outcomes.items()
    ]
    note = (
        f"Share of {measured.num_problems} validation problems answered rightly (steps accepted), beta {BETA:.0f}, "
        f"u {ACCEPTANCE_THRESHOLD}, T {TEMPERATURE}. n = 1 of S-BoN is the model alone. Training never saw these "
        "problems, nor those in `../heldout.jsonl`."
    )
    return "\n".join(["**The family together.**", "", *header, *rows, "", note])


def _cell(outcome: Outcome, name: str) -> str:
    is_guided = not name.startswith("S-BoN")
    return f"{outcome.accuracy:.3f}" + (f" ({outcome.accepted:.2f})" if is_guided else "")
