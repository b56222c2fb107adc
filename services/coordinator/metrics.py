"""The coordinator's series, and what of a step goes into which."""

import math

from prometheus_client import Counter, Gauge, Histogram

from gsi.algorithm.candidates import Source
from gsi.algorithm.step import MadeStep
from gsi.jobs.state import JobState
from gsi.jobs.stream import Backlog
from gsi.runtime.metrics import SECONDS_BUCKETS

REWARD_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Tilted rewards live on the reward's scale and leave it on both sides by log_ratio / beta.
TILTED_REWARD_BUCKETS = (-2.0, -1.0, -0.5, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
LOG_RATIO_BUCKETS = (-50.0, -20.0, -10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
JOB_SECONDS_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)

STEPS = Counter("gsi_steps_total", "Steps kept; accepted / all is the acceptance rate.", ["outcome"])
STEP_SECONDS = Histogram("gsi_step_seconds", "Time that the models took for a step.", buckets=SECONDS_BUCKETS)
PHASE_SECONDS = Histogram(
    "gsi_phase_seconds",
    "Parts of a step: draft, score (what scoring takes beyond drafting), resample, target (alone), checkpoint (Redis).",
    ["phase"],
    buckets=SECONDS_BUCKETS,
)
JOBS = Counter("gsi_jobs_total", "Runs that ended, by the state that they left their job in.", ["state"])
JOBS_IN_FLIGHT = Gauge("gsi_jobs_in_flight", "Jobs that this coordinator is running.")
JOB_SECONDS = Histogram(
    "gsi_job_seconds", "Time from taking a job to its result, in one delivery.", buckets=JOB_SECONDS_BUCKETS
)
STREAM_LAG = Gauge("gsi_stream_lag", "Jobs in the stream that no coordinator has taken.")
STREAM_PENDING = Gauge("gsi_stream_pending", "Jobs taken and not yet acknowledged, by all coordinators.")
REDELIVERIES = Counter("gsi_redeliveries_total", "Jobs taken over from a coordinator that was gone.")
SUBMISSIONS_REFUSED = Gauge(
    "gsi_submissions_refused", "Submissions that a full queue has refused, by all clients, since its server began."
)
STEP_LIMIT = Gauge("gsi_step_limit", "Steps that this coordinator runs at once: fewer while a service is full.")
LEASES_LOST = Counter("gsi_leases_lost_total", "Runs that were cancelled because another coordinator had the job.")
RETRIES = Counter("gsi_retries_total", "Jobs that were put off after a failure, to be tried again.")
DEAD_LETTERS = Counter("gsi_dead_letters_total", "Jobs that this coordinator gave up after too many attempts.")
CANDIDATES = Counter("gsi_candidates_total", "Candidates proposed.", ["role"])
REWARD = Histogram("gsi_reward", "Rewards of all candidates.", buckets=REWARD_BUCKETS)
TILTED_REWARD = Histogram(
    "gsi_tilted_reward", "Tilted rewards of the draft's candidates.", buckets=TILTED_REWARD_BUCKETS
)
LOG_RATIO = Histogram(
    "gsi_log_ratio", "log pi_B - log pi_S of the draft's candidates, in nats.", buckets=LOG_RATIO_BUCKETS
)
TOKENS = Counter("gsi_tokens_total", "Tokens by model and kind: proposed, scored, kept.", ["role", "kind"])


def observe_step(made: MadeStep) -> None:
    """Count one kept step and everything that it was made from."""
    for step in made.steps:
        STEPS.labels(step.outcome).inc()
        TOKENS.labels(step.source, "kept").inc(len(step.token_ids))
    STEP_SECONDS.observe(made.seconds)
    for proposal in made.proposals:
        CANDIDATES.labels(proposal.source).inc(len(proposal.candidates))
        TOKENS.labels(proposal.source, "proposed").inc(proposal.num_tokens)
        for role in proposal.scores:
            TOKENS.labels(role, "scored").inc(proposal.num_tokens)
        for reward in filter(math.isfinite, proposal.scores.get("prm", [])):  # one NaN would spoil the sum for ever
            REWARD.observe(reward)
        for ratio in filter(math.isfinite, proposal.log_ratios):
            LOG_RATIO.observe(ratio)
    for tilted in filter(math.isfinite, made.tilted_rewards):
        TILTED_REWARD.observe(tilted)
    _observe_phases(made)


def observe_job(state: JobState, seconds: float) -> None:
    """Count a job that this coordinator finished."""
    JOBS.labels(state).inc()
    JOB_SECONDS.observe(seconds)


def observe_backlog(backlog: Backlog) -> None:
    if backlog.lag is not None:
        STREAM_LAG.set(backlog.lag)
    STREAM_PENDING.set(backlog.pending)


def _observe_phases(made: MadeStep) -> None:
    for drafted in made.by(Source.DRAFT):
        PHASE_SECONDS.labels("draft").observe(drafted.seconds["propose"])
        PHASE_SECONDS.labels("score").observe(max(drafted.seconds.values()) - drafted.seconds["propose"])
    phase = "resample" if made.by(Source.DRAFT) else "target"
    for written in made.by(Source.TARGET):
        PHASE_SECONDS.labels(phase).observe(max(written.seconds.values()))
