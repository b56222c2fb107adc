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
    number,
    where_to_look,
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
    """Return what the models took for a step, as a mean."""
    return ratio(_sum("gsi_step_seconds_sum", "", window), _sum("gsi_step_seconds_count", "", window))


def target_alone(window: str) -> str:
    """Return the mean time of a step that the target wrote itself."""
    written = 'phase=~"resample|target"'
    return ratio(_sum("gsi_phase_seconds_sum", written, window), _sum("gsi_phase_seconds_count", written, window))


def wasted(window: str) -> str:
    """Return the share of the draft's tokens that are in no kept step."""
    return "1 - " + ratio(_sum("gsi_tokens_total", KEPT, window), _sum("gsi_tokens_total", WRITTEN, window))


def per_job(tokens: str, window: str, matching: str = "") -> str:
    """Return a rate for each job that succeeds."""
    return ratio(tokens, _sum("gsi_jobs_total", 'state="SUCCEEDED"', window), matching)


def _by_pair() -> str:
    accepted = coordinators("gsi_steps_total", 'outcome="accepted"', RATE)
    every = coordinators("gsi_steps_total", "", RATE)
    return ratio(f"sum by (draft, target) (({accepted}) {BY_PAIR})", f"sum by (draft, target) (({every}) {BY_PAIR})")


def _sortable(by_index: str) -> str:
    """Return a query with the label ``step``: the index with two digits, so that 10 comes after 9."""
    two_digits = f'label_replace({by_index}, "step", "$1", "index", "(.+)")'
    return f'label_replace({two_digits}, "step", "0$1", "index", "(.)")'


def _quantiles(buckets: str) -> Iterator[Query]:
    for share, name in ((0.9, "90 % are below"), (0.5, "half are below"), (0.1, "10 % are below")):
        yield Query(quantile(share, coordinators(buckets, "", RATE)), name)


TARGET_ALONE = (
    "What a step would take without a draft, estimated from the steps that the target wrote itself in the same "
    "time: the mean of gsi_phase_seconds over the phases resample and target, rewards included. It is an estimate: "
    "the target writes the hard steps, and while it also scores the draft's."
)

AT_A_GLANCE = Row(
    "At a glance, over the time range",
    [
        number(
            "Accepted steps",
            "Share of the steps kept that the draft wrote. Below about a third the target does most of the work, and "
            "drafting comes on top. Methods without a test count all of their steps as accepted.",
            [Query(acceptance(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
            steps=((0, RED), (0.33, ORANGE), (0.5, GREEN)),
        ),
        number(
            "Speed-up",
            "Seconds of a step that the target writes, divided by seconds of a step as it is: above 1 speculation pays "
            f"in time. {TARGET_ALONE}",
            [Query(f"({target_alone(RANGE)}) / ({seconds_per_step(RANGE)} > 0)")],
            unit="suffix:x",
            width=4,
            decimals=2,
            steps=((0, RED), (1, ORANGE), (1.2, GREEN)),
        ),
        number(
            "Seconds per step",
            "Mean time that the models take for a kept step: drafting, scoring, and resampling if there was any. "
            "Retries and Redis are not in it.",
            [Query(seconds_per_step(RANGE))],
            unit="s",
            width=4,
            decimals=2,
        ),
        number(
            "Target alone (estimate)",
            TARGET_ALONE,
            [Query(target_alone(RANGE))],
            unit="s",
            width=4,
            decimals=2,
        ),
        number(
            "Draft tokens wasted",
            "Share of the tokens that the draft wrote and that are in no kept step: candidates that were not "
            "selected, and those that were rejected. With n candidates a step at least 1 - 1/n is wasted by design.",
            [Query(wasted(RANGE))],
            unit="percentunit",
            width=4,
            decimals=1,
        ),
        number(
            "Target tokens per job",
            "Tokens that the target writes for a job that succeeds, its discarded candidates too: what speculation "
            "is to save. Tokens that it only scores are not in it.",
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
            "Share of accepted steps over time. No line where no step was kept. If it falls: another kind of prompts, "
            "another model or temperature in one of the services, or a threshold that does not fit (gsi calibrate).",
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
            "The same for each pair of draft and target, by the coordinators that work with it.",
            Kind.LINES,
            [Query(_by_pair(), "{{draft}} for {{target}}")],
            unit="percentunit",
            minimum=0,
            maximum=1,
        ),
        Panel(
            "Accepted steps by their place in the answer",
            "Share of accepted steps over the time range, from the first step (00) on. A first step that is often "
            "rejected points to a draft that opens answers in its own way.",
            Kind.BARS,
            [
                Query(_sortable(acceptance(RANGE, "index", "gsi_steps_by_index_total")), "step"),
            ],
            unit="percentunit",
            minimum=0,
            maximum=1,
            decimals=0,
            is_main=True,
        ),
        Panel(
            "Steps kept a second",
            "By whether the draft's candidate was accepted or the target wrote the step anew.",
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
            f"Below the estimate speculation pays in time. {TARGET_ALONE}",
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
            "Mean seconds per step by phase; the phases add up to the step, from the step before to its checkpoint. "
            "draft: until the last candidate. score: scoring beyond that. resample: the target's proposal behind a "
            "draft's. target: the target alone. checkpoint: Redis. wait: throttled, or a service was away or full. "
            "overhead: our own.",
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
            "From the first candidate that a scorer was given to its last score. Drafting goes on meanwhile, so "
            "only what lasts longer than drafting costs time: the phase score.",
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
            "Quantiles of what the models take for a step, from the histogram's buckets.",
            Kind.LINES,
            [
                Query(quantile(share, coordinators("gsi_step_seconds_bucket", "", RATE)), name)
                for share, name in ((0.99, "99 % are below"), (0.95, "95 % are below"), (0.5, "half are below"))
            ],
            unit="s",
            minimum=0,
        ),
    ],
)

REWARD = Row(
    "Tilted reward against the threshold u",
    [
        Panel(
            "Tilted reward minus u",
            "How far the selected candidate was above the threshold; below 0 it was rejected. Much colour just "
            "below 0 means that a slightly lower u would accept many more steps.",
            Kind.HEATMAP,
            [Query(f"sum by (le) ({coordinators('gsi_acceptance_margin_bucket', '', RATE)})", "{{le}}")],
            unit="suffix: steps/s",
            is_main=True,
        ),
        Panel(
            "Tilted reward minus u, quantiles",
            "The same as lines. If the middle one crosses 0, half of the steps are rejected.",
            Kind.LINES,
            list(_quantiles("gsi_acceptance_margin_bucket")),
            steps=((0, GREEN),),
        ),
        Panel(
            "Tilted reward of all candidates",
            "Reward plus log ratio / beta, of every candidate of the draft. It leaves [0, 1] where the two models "
            "differ.",
            Kind.LINES,
            list(_quantiles("gsi_tilted_reward_bucket")),
            is_main=True,
        ),
        Panel(
            "Log ratio of the two models",
            "log pi_B - log pi_S of the draft's candidates, in nats. Far below 0 the target would never have "
            "written what the draft does: check that both have the same tokenizer, chat template and temperature.",
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
            "Tokens a second that the draft writes, by whether they are now in a step.",
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
            "Tokens that each model writes or scores for a job that succeeds, over the time range. Scored tokens "
            "are read, which is cheaper than writing them.",
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
            "GPU time for each job that succeeds: busy counts what NVML saw as busy, held counts the GPUs that the "
            "release occupies, busy or not.",
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
    ],
)

SPECULATION = Board(
    "gsi-speculation",
    "GSI / Is speculation paying?",
    "What the draft saves and what it costs: acceptance, seconds per step against the target alone, tokens.",
    [AT_A_GLANCE, ACCEPTANCE, TIME, REWARD, COST, where_to_look("When an alert fires")],
)
