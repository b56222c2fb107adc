"""How steps and results look on a terminal."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from gsi.algorithm.candidates import Outcome
from gsi.jobs.dead_letters import DeadLetter
from gsi.jobs.listing import JobSummary
from gsi.jobs.reader import JobRecord
from gsi.jobs.step_record import StepRecord
from gsi.runtime.printable import join_lines

STATE_STYLES = {"SUCCEEDED": "green", "FAILED": "red", "DEAD": "red"}


def render_step(step: StepRecord) -> Text:
    """Return a kept step on one line, below the rejected candidate that it replaces, if there is one."""
    lines = Text()
    if step.rejected is not None:
        lines.append(f"{step.index + 1:>3}  draft   rejected   ", style="dim")
        said = _format_judgement(step) or _format_scores(step.rejected.reward, step.rejected.tilted_reward)
        lines.append(said, style="dim")
        lines.append(f"{join_lines(step.rejected.text)}\n", style="dim strike")
    style = "yellow" if step.outcome is Outcome.RESAMPLED else "green"
    lines.append(f"{step.index + 1:>3}  {step.source:<6}  ")
    lines.append(f"{step.outcome:<9}  ", style=style)
    said = "" if step.rejected else _format_judgement(step)
    lines.append(said or _format_scores(step.reward, step.tilted_reward), style="cyan")
    lines.append(join_lines(step.text))
    if len(step.branches) > 1:
        lines.append(f"  + {len(step.branches) - 1} other trajectories", style="dim")
    return lines


def render_end(record: JobRecord) -> Text:
    """Return on one line how a job ended, or its state if it has not ended."""
    fields = record.fields
    line = Text(record.state.value, style=STATE_STYLES.get(record.state, "yellow"))
    if fields.get("stop_reason"):
        line.append(f" ({fields['stop_reason']})", style="dim")
    if fields.get("answer"):
        line.append(f"  answer {join_lines(fields['answer'])}", style="bold")
    if fields.get("error"):
        line.append(f"  {join_lines(fields['error'])}", style="default")
    elif fields.get("last_error") and not record.state.is_finished:
        line.append(f"  its last run failed: {join_lines(fields['last_error'])}", style="default")
    return line


def render_jobs(jobs: Sequence[JobSummary], now: float) -> Table:
    """Return a table of jobs: id, state, method, kept steps, age at ``now`` (seconds since 1970), answer or error."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for name in ("id", "state"):
        table.add_column(name, no_wrap=True, min_width=max(len(getattr(job, name)) for job in jobs))
    table.add_column("method", no_wrap=True)
    for name in ("steps", "age"):
        table.add_column(name, no_wrap=True, justify="right", min_width=len(name))
    table.add_column("answer or error", no_wrap=True)
    for job in jobs:
        state = Text(job.state.value, style=STATE_STYLES.get(job.state, "yellow"))
        age = "-" if job.submitted_at is None else format_age(max(0.0, now - job.submitted_at))
        said = join_lines(job.answer or job.error or "-")
        table.add_row(Text(job.id), state, Text(job.method or "-"), str(job.num_steps), age, Text(said))
    return table


def format_age(seconds: float) -> str:
    """Return a time in its largest unit: 45s, 3m, 2h, 5d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def render_dead_jobs(letters: Sequence[DeadLetter]) -> Table:
    """Return a table of dead jobs: id, time of death, reason and last error."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    for name in ("id", "died (UTC)"):
        table.add_column(name, no_wrap=True)
    table.add_column("why: last error")
    for letter in letters:
        died = datetime.fromtimestamp(letter.died_at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(
            *map(Text, (letter.job_id, died, f"{letter.reason}: {letter.error}"))
        )  # Text: no markup in errors
    return table


def render_demo(jobs: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the demo's jobs: problem, answer, right or wrong, steps, share of accepted steps."""
    table = Table(header_style="bold", expand=True, box=SIMPLE_HEAD)
    table.add_column(
        "problem", no_wrap=True, overflow="ellipsis", ratio=1
    )  # takes the width that the other columns leave
    for name in ("answer", "expected", "right?", "steps", "accepted"):
        table.add_column(name, no_wrap=True, min_width=len(name))
    for job in jobs:
        accepted = sum(step["outcome"] == Outcome.ACCEPTED for step in job["steps"])
        share = f"{accepted / len(job['steps']):.0%}" if job["steps"] else "-"
        mark = Text("right", style="green") if job["correct"] else Text("wrong", style="red")
        texts = (Text(job[name] or "-") for name in ("prompt", "answer", "expected"))  # Text: no markup in answers
        table.add_row(*texts, mark, str(len(job["steps"])), share)
    return table


def render_comparison(comparison: Sequence[Mapping[str, Any]]) -> Table:
    """Return a table of the ways in which a demo's problems were answered, one job at a time."""
    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("the same problems", no_wrap=True)
    for name in ("right", "s/answer", "draft\ntokens", "target\ntokens"):
        table.add_column(name, justify="right", no_wrap=True)
    for index, way in enumerate(comparison):
        table.add_row(
            way["name"],
            f"{way['accuracy']:.0%}",
            f"{way['seconds_per_answer']:.2f}",
            f"{way['draft_tokens']:,}",
            f"{way['target_tokens']:,}",
            style="bold green" if index == 0 else None,
        )
    return table


def _format_judgement(step: StepRecord) -> str:
    """Return what the last judge said of the draft's candidate, as wide as a reward; "" if nobody judged it."""
    if not step.judgements:
        return ""
    last = step.judgements[-1]
    return f"score {last.score:5.2f}  by {last.source:<11}"


def _format_scores(reward: float | None, tilted_reward: float | None) -> str:
    tilted = "tilted   -  " if tilted_reward is None else f"tilted {tilted_reward:5.2f}"
    rated = "reward   - " if reward is None or math.isnan(reward) else f"reward {reward:4.2f}"
    return f"{rated}  {tilted}  "
