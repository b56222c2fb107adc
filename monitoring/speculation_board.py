"""*Is speculation paying?* What the draft saves, and what it costs."""

from collections.abc import Iterator

from monitoring.board import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Board,
    Kind,
    Needs,
    Panel,
    Query,
    Row,
    make_documents_row,
    make_number,
)
from monitoring.promql import RANGE, RATE, coordinators, gpus, quantile, ratio

PHASE_COLOURS = {
    "draft": BLUE,
    "score": PURPLE,
    "resample": ORANGE,
    "target": "yellow",
    "checkpoint": GREEN,
    "wait": RED,
    "overhead": GREY,
}
WRITTEN = 'role="draft",kind="proposed"'
KEPT = 'role="draft",kind="kept"'
BY_PAIR = (
    "* on (instance) group_left (draft, target) "
    'max by (instance, draft, target) (gsi_models_info{draft=~".+",target=~".+"})'
)


def _sum(name: str, matchers: str = "", window: str = RATE, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ' '}({coordinators(name, matchers, window)})"


def acceptance(window: str, by: str = "", name: str = "gsi_steps_total") -> str:
    """Return the share of kept steps that the draft wrote."""
    return ratio(_sum(name, 'outcome="accepted"', window, by), _sum(name, "", window, by))


def seconds_per_step(window: str) -> str:
    """Return the models' mean time for a step."""
    return ratio(_sum("gsi_step_seconds_sum", "", window), _sum("gsi_step_seconds_count", "", window))


def target_alone(window: str) -> str:
    """Return the mean time of a step that the target wrote itself."""
    written = 'phase=~"resample|target"'
    return ratio(_sum("gsi_phase_seconds_sum", written, window), _sum("gsi_phase_seconds_count", written, window))


def wasted_share(window: str) -> str:
    """Return the share of the draft's tokens that are in no kept step."""
    return "1 - " + ratio(_sum("gsi_tokens_total", KEPT, window), _sum("gsi_tokens_total", WRITTEN, window))


def per_job(tokens: str, window: str, matching: str = "") -> str:
    """Return a rate per job that succeeds."""
    return ratio(tokens, _sum("gsi_jobs_total", 'state="SUCCEEDED"', window), matching)


def _by_pair() -> str:
    accepted = coordinators("gsi_steps_total", 'outcome="accepted"', RATE)
    every = coordinators("gsi_steps_total", "", RATE)
    return ratio(f"sum by (draft, target) (({accepted}) {BY_PAIR})", f"sum by (draft, target) (({every}) {BY_PAIR})")


def _with_step_label(by_index: str) -> str:
    """Return an expression with the label ``step``: the index with two digits, so that 10 sorts after 9."""
    two_digits = f'label_replace({by_index}, "step", "$1", "index", "(.+)")'
    return f'label_replace({two_digits}, "step", "0$1", "index", "(.)")'


def _quantiles(buckets: str) -> Iterator[Query]:
    for share, name in ((0.9, "90 % are below"), (0.5, "half are below"), (0.1, "10 % are below")):
        yield Query(quantile(share, coordinators(buckets, "", RATE)), name)


SPECULATION_NUMBERS = Row(
    "At a glance, over the time range",
    [
        make_number(
            "Accepted steps",
            "Share of the kept steps that the draft wrote. Below about a third, the target does most of the work, and "
            "drafting adds to it. Methods without a test count all their steps as accepted.",
            [Query(acceptance(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, RED), (0.33, ORANGE), (0.5, GREEN)),
            alert="GsiAcceptanceFell",
        ),
        make_number(
            "Speed-up",
            "Seconds per step of the target alone (an estimate, explained in its own panel), divided by seconds per "
            "step as it is. Above 1, speculation saves time.",
            [Query(f"({target_alone(RANGE)}) / ({seconds_per_step(RANGE)} > 0)")],
            unit="suffix:x",
            width=4,
            decimals=2,
            steps=((0, RED), (1, ORANGE), (1.2, GREEN)),
        ),
        make_number(
            "Seconds per step",
            "Mean time that the models take for a kept step: drafting, scoring, and resampling if there was any. "
            "It does not include retries and Redis.",
            [Query(seconds_per_step(RANGE))],
            unit="s",
            width=4,
            decimals=2,
            alert="GsiStepsSlower",
        ),
        make_number(
            "Target alone (estimate)",
            "Time of a step without a draft, estimated from the steps that the target wrote itself in the same period: "
            "the mean of gsi_phase_seconds over the phases resample and target, including rewards. It is only an "
            "estimate, since the target writes the hard steps and also scores the draft's candidates.",
            [Query(target_alone(RANGE))],
            unit="s",
            width=4,
            decimals=2,
        ),
        make_number(
            "Draft tokens wasted",
            "Share of the draft's tokens that are in no kept step: candidates that were not selected, and candidates "
            "that were rejected. With n candidates per step, at least about 1 - 1/n is wasted by design.",
            [Query(wasted_share(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
        ),
        make_number(
            "Target tokens per job",
            "Tokens that the target writes per job that succeeds, including discarded candidates. Speculation should "
            "lower it. It does not include tokens that the target only scores.",
            [Query(per_job(_sum("gsi_tokens_total", 'role="target",kind="proposed"', RANGE), RANGE))],
            unit="suffix: tokens",
            width=4,
            decimals=0,
        ),
    ],
)

ACCEPTANCE = Row(
    "Acceptance",
    [
        Panel(
            "Accepted steps",
            "Share of accepted steps over time, without a line where no step was kept. Reasons for a fall: other "
            "prompts, another model or temperature in a service, or a threshold that does not fit (gsi calibrate).",
            Kind.LINES,
            [Query(acceptance(RATE), "accepted")],
            unit="percentunit",
            minimum=0,
            maximum=1,
            colours={"accepted": GREEN},
            is_main=True,
        ),
        Panel(
            "Accepted steps by model pair",
            "The same for each pair of draft and target.",
            Kind.LINES,
            [Query(_by_pair(), "{{draft}} for {{target}}")],
            unit="percentunit",
            minimum=0,
            maximum=1,
        ),
        Panel(
            "Accepted steps by their place in the answer",
            "Share of accepted steps over the time range, by the step's index; the first step is 00. If the first "
            "step is often rejected, the draft opens answers in its own way.",
            Kind.BARS,
            [
                Query(_with_step_label(acceptance(RANGE, "index", "gsi_steps_by_index_total")), "step"),
            ],
            unit="percentunit",
            minimum=0,
            maximum=1,
            decimals=0,
            is_main=True,
        ),
        Panel(
            "Steps kept a second",
            "Accepted: the draft's candidate was kept. Resampled: the target wrote the step.",
            Kind.STACK,
            [Query(_sum("gsi_steps_total", by="outcome"), "{{outcome}}")],
            unit="suffix: steps/s",
            minimum=0,
            colours={"accepted": GREEN, "resampled": ORANGE},
        ),
    ],
)

TIME = Row(
    "Time of a step",
    [
        Panel(
            "Seconds per step against the target alone",
            "Below the line of the target alone, speculation saves time. The number Target alone (estimate) explains "
            "that line.",
            Kind.LINES,
            [
                Query(seconds_per_step(RATE), "a step as it is"),
                Query(target_alone(RATE), "target alone (estimate)"),
            ],
            unit="s",
            minimum=0,
            colours={"a step as it is": BLUE, "target alone (estimate)": ORANGE},
            is_main=True,
        ),
        Panel(
            "Where a step's time goes",
            "Mean seconds per step by phase. The phases add up to the step, from the previous step to its own "
            "checkpoint. draft: until the last candidate. score: scoring after that. resample: the target's proposal "
            "after a rejected draft. target: the target alone. checkpoint: Redis. wait: the step was throttled, or a "
            "service was unavailable or full. overhead: the coordinator.",
            Kind.STACK,
            [
                Query(
                    ratio(
                        _sum("gsi_phase_seconds_sum", by="phase"),
                        _sum("gsi_phase_seconds_count", 'phase="checkpoint"'),
                        "on () group_left ()",
                    ),
                    "{{phase}}",
                )
            ],
            unit="s",
            minimum=0,
            colours=PHASE_COLOURS,
            is_main=True,
        ),
        Panel(
            "Seconds of scoring",
            "From the first candidate that a scorer receives to its last score. Scoring overlaps with drafting and "
            "costs time only after drafting has ended: that is the phase score.",
            Kind.LINES,
            [
                Query(
                    ratio(
                        _sum("gsi_scoring_seconds_sum", by="role"),
                        _sum("gsi_scoring_seconds_count", by="role"),
                    ),
                    "{{role}}, mean",
                ),
                Query(
                    quantile(0.95, coordinators("gsi_scoring_seconds_bucket", "", RATE), "le, role"),
                    "{{role}}, 95 % are below",
                ),
            ],
            unit="s",
            minimum=0,
        ),
        Panel(
            "Slow steps",
            "Quantiles of the models' time for a step, from the histogram's buckets.",
            Kind.LINES,
            [
                Query(quantile(share, coordinators("gsi_step_seconds_bucket", "", RATE)), name)
                for share, name in ((0.99, "99 % are below"), (0.95, "95 % are below"), (0.5, "half are below"))
            ],
            unit="s",
            minimum=0,
            page="/jobs?state=SUCCEEDED",
            alert="GsiStepsSlower",
        ),
    ],
)

REWARD = Row(
    "Tilted reward against the threshold u",
    [
        Panel(
            "Tilted reward minus u",
            "How far the selected candidate was above the threshold; below 0 it was rejected. Dark cells just below 0 "
            "mean that a slightly lower u would accept many more steps.",
            Kind.HEATMAP,
            [Query(f"sum by (le) ({coordinators('gsi_acceptance_margin_bucket', '', RATE)})", "{{le}}")],
            unit="suffix: steps/s",
            is_main=True,
        ),
        Panel(
            "Tilted reward minus u, quantiles",
            "The same as lines. Where the middle line is at 0, half of the steps are rejected.",
            Kind.LINES,
            list(_quantiles("gsi_acceptance_margin_bucket")),
            steps=((0, GREEN),),
        ),
        Panel(
            "Tilted reward of all candidates",
            "Reward plus log ratio / beta, for every candidate of the draft. It leaves [0, 1] where the two models "
            "differ.",
            Kind.LINES,
            list(_quantiles("gsi_tilted_reward_bucket")),
            is_main=True,
        ),
        Panel(
            "Log ratio of the two models",
            "log pi_B - log pi_S of the draft's candidates, in nats. Far below 0, the target would never write the "
            "draft's text: check that both have the same tokenizer, chat template and temperature.",
            Kind.LINES,
            list(_quantiles("gsi_log_ratio_bucket")),
            unit="suffix: nats",
        ),
    ],
)

COST = Row(
    "What it costs",
    [
        Panel(
            "Draft tokens, kept and wasted",
            "Tokens per second that the draft writes, by whether a kept step contains them.",
            Kind.STACK,
            [
                Query(_sum("gsi_tokens_total", KEPT), "kept"),
                Query(f"{_sum('gsi_tokens_total', WRITTEN)} - {_sum('gsi_tokens_total', KEPT)}", "wasted"),
            ],
            unit="suffix: tokens/s",
            width=8,
            minimum=0,
            colours={"kept": GREEN, "wasted": ORANGE},
            is_main=True,
        ),
        Panel(
            "Tokens per job",
            "Tokens that each model writes or scores per job that succeeds, over the time range. Scored tokens "
            "are only read, which is cheaper than writing.",
            Kind.BARS,
            [
                Query(
                    "label_join("
                    + per_job(
                        _sum("gsi_tokens_total", 'kind=~"proposed|scored"', RANGE, "role, kind"),
                        RANGE,
                        "on () group_left ()",
                    )
                    + ', "what", " ", "role", "kind")',
                    "what",
                )
            ],
            unit="short",
            width=8,
            decimals=0,
            minimum=0,
            is_main=True,
        ),
        Panel(
            "GPU-seconds per job",
            "GPU time per job that succeeds. Busy: the time that NVML counts as busy. Held: all time of the GPUs that "
            "the release occupies.",
            Kind.LINES,
            [
                Query(per_job(f"sum ({gpus('gsi_gpu_utilization_ratio')})", RATE), "busy"),
                Query(per_job(f"count ({gpus('gsi_gpu_memory_bytes')})", RATE), "held"),
            ],
            unit="s",
            width=8,
            minimum=0,
            needs=Needs.GPU,
            is_main=True,
        ),
        Panel(
            "Drafts written ahead",
            "Drafts of a next step per second that began before the step before was kept (GSI_COORDINATOR_LOOKAHEAD). "
            "Wasted: another candidate was drawn. Both are 0 while it is off.",
            Kind.STACK,
            [Query(_sum("gsi_drafts_ahead_total", by="outcome"), "{{outcome}}")],
            unit="suffix: /s",
            minimum=0,
            colours={"kept": GREEN, "wasted": ORANGE},
        ),
    ],
)

SPECULATION_BOARD = Board(
    "gsi-speculation",
    "GSI / Is speculation paying?",
    "What the draft saves and what it costs: acceptance, seconds per step against the target alone, tokens.",
    [SPECULATION_NUMBERS, ACCEPTANCE, TIME, REWARD, COST, make_documents_row("When an alert fires")],
)
