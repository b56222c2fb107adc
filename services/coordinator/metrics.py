"""The coordinator's series, and what of a step goes into which."""

import math
from collections.abc import Mapping

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from gsi.jobs.reader import QueueConfig, SetAside
from gsi.jobs.state import JobState
from gsi.jobs.stream import Ages, Backlog
from gsi.runtime.metrics import ROLES, SECONDS_BUCKETS
from gsi.runtime.series import Series

REWARD_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Tilted rewards live on the reward's scale and leave it on both sides by log_ratio / beta.
TILTED_REWARD_BUCKETS = (-2.0, -1.0, -0.5, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
MARGIN_BUCKETS = (-2.0, -1.0, -0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 2.0)
LOG_RATIO_BUCKETS = (-50.0, -20.0, -10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
JOB_SECONDS_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)

MAX_INDEX = 16  # steps from this place on share a label value
INDICES = (*map(str, range(MAX_INDEX)), f"{MAX_INDEX}+")
ENDS = [state for state in JobState if state is not JobState.RUNNING]  # of a run
PHASES = ("draft", "score", "resample", "target", "checkpoint", "wait", "overhead")

series = Series()
STEPS = series.counter(
    "gsi_steps_total",
    "Steps kept. Methods without a test count all of theirs as accepted. Where several trajectories are kept, each new "
    "step of a round counts, also of those that are dropped later.",
    "steps",
    {"outcome": list(Outcome)},
)
STEPS_BY_INDEX = series.counter(
    "gsi_steps_by_index_total",
    "The same by the step's place in its answer, from 0.",
    "steps",
    {"index": INDICES, "outcome": list(Outcome)},
)
STEP_SECONDS = series.histogram(
    "gsi_step_seconds",
    "What the models took for a kept step: drafting and scoring, and resampling if there was any. Retries and Redis "
    "are not in it. Of a method that keeps several trajectories: for a round, the longest of them.",
    "seconds",
    buckets=SECONDS_BUCKETS,
)
PHASE_SECONDS = series.histogram(
    "gsi_phase_seconds",
    "Where the time of a kept step goes, from the end of the step before, or the start of the answer, to its "
    "checkpoint: the phases add up to it. draft: until the last candidate. score: what scoring took beyond that. "
    "resample: the target's proposal with its rewards, behind a draft's. target: the same where the target writes by "
    "itself, as in `soft-best-of-n:target`. checkpoint: writing the step to Redis. wait: until the step was let run, "
    "and until a service that was away or full answered; calls that failed are in it. overhead: all else, which is our "
    "own. Of a method that keeps several trajectories: for a round, the longest of them.",
    "seconds",
    {"phase": PHASES},
    buckets=SECONDS_BUCKETS,
)
SCORING_SECONDS = series.histogram(
    "gsi_scoring_seconds",
    "From the first candidate that this model was given to its last score, of each proposal that it scored. Drafting "
    "goes on meanwhile, so this does not add up with the phases.",
    "seconds",
    {"role": ("target", "prm")},
    buckets=SECONDS_BUCKETS,
)
JOBS = series.counter(
    "gsi_jobs_total",
    "Runs of this coordinator, by the state that they left the job in. QUEUED: it was put off after a failure. Jobs "
    "that were cancelled while they waited are not in it.",
    "jobs",
    {"state": ENDS},
)
JOBS_IN_FLIGHT = series.gauge("gsi_jobs_in_flight", "Jobs that this coordinator runs now.", "jobs")
JOB_SECONDS = series.histogram(
    "gsi_job_seconds",
    "From taking a job to the end of that run, in one delivery; runs that were handed back count too. Waiting in the "
    "queue is not in it.",
    "seconds",
    buckets=JOB_SECONDS_BUCKETS,
)
REDIS_REACHABLE = series.gauge(
    "gsi_redis_reachable",
    "1 while Redis answers this coordinator and lets it work, jobs or none; 0 before the first connection, and while "
    "Redis is away or refuses to work, such as with a full disk or memory. It is asked at least every two seconds.",
    "0 or 1",
)
STREAM_LAG = series.gauge(
    "gsi_stream_lag",
    "Entries that no coordinator has taken. Of the queue: every coordinator reports the same.",
    "jobs",
)
STREAM_PENDING = series.gauge(
    "gsi_stream_pending", "Entries taken and not yet acknowledged. Of the queue, as above.", "jobs"
)
OLDEST_WAITING = series.gauge(
    "gsi_oldest_waiting_seconds",
    "Age of the oldest entry that no coordinator has taken; 0 if there is none. Of the queue, as above.",
    "seconds",
)
LEASE_AGE = series.gauge(
    "gsi_lease_age_seconds",
    "The longest time since a lease was renewed, over the entries taken (the oldest 1000 of each lane); 0 if there is "
    "none. Leases are renewed at a quarter of `GSI_COORDINATOR_LEASE_SECONDS` and end at the whole. Of the queue, as "
    "above.",
    "seconds",
)
DEAD_JOBS = series.gauge(
    "gsi_dead_jobs",
    "Entries of the dead letters, those that were retried or purged not. Of the queue, as above.",
    "jobs",
)
DELAYED_JOBS = series.gauge(
    "gsi_delayed_jobs", "Jobs that were put off and wait for their next attempt. Of the queue, as above.", "jobs"
)
PARKED_JOBS = series.gauge(
    "gsi_parked_jobs",
    "Jobs that wait because their tenant has enough in flight (`GSI_COORDINATOR_MAX_JOBS_PER_TENANT`). Of the queue, "
    "as above.",
    "jobs",
)
QUEUE_PAUSED = series.gauge(
    "gsi_queue_paused",
    "1 while the queue is paused (`gsi queue pause`), so that no new job is taken; else 0. Of the queue, as above.",
    "0 or 1",
)
REDELIVERIES = series.counter("gsi_redeliveries_total", "Entries that this coordinator took over.", "jobs")
LEASES_LOST = series.counter(
    "gsi_leases_lost_total",
    "Runs that were cancelled because another coordinator had the job. It grows when a coordinator is paused or cut "
    "off from Redis for longer than a lease.",
    "runs",
)
RETRIES = series.counter(
    "gsi_retries_total", "Jobs that this coordinator put off after a failure, to be tried again.", "jobs"
)
DEAD_LETTERS = series.counter(
    "gsi_dead_letters_total",
    "Jobs that this coordinator gave up because their last attempt failed. Those that are DEAD because their "
    "coordinators were lost each time are in `gsi_dead_jobs` only.",
    "jobs",
)
SUBMISSIONS_REFUSED = series.gauge(
    "gsi_submissions_refused",
    "How many submissions a full queue (`gsi queue limit`) has refused, by all clients; every coordinator shows the "
    "same number.",
    "submissions",
)
STEP_LIMIT = series.gauge(
    "gsi_step_limit",
    "How many steps this coordinator lets run at once: its `…_MAX_JOBS`, halved when a service says that it is full, "
    "and growing again as steps succeed.",
    "steps",
)
SERVICE_SERVING = series.gauge(
    "gsi_service_serving",
    "1 if the service said SERVING when this coordinator last asked it, else 0. It asks every few seconds.",
    "0 or 1",
    {"role": ROLES},
)
MODELS_INFO = series.info(
    "gsi_models_info",
    "Always 1, once the services are known: which models work together.",
    {role: f"name of the {role}'s model, one at a time" for role in ROLES},
)
CANDIDATES = series.counter(
    "gsi_candidates_total", "Candidates proposed for kept steps.", "candidates", {"role": list(Source)}
)
REWARD = series.histogram(
    "gsi_reward",
    "Rewards of all those candidates, after the job's reward map; none where no reward was asked. The buckets are "
    "those of [0, 1].",
    "reward",
    buckets=REWARD_BUCKETS,
)
TILTED_REWARD = series.histogram(
    "gsi_tilted_reward",
    "Tilted rewards of the draft's candidates, of the methods `gsi` and `gsi-no-rejection`, those that are finite. No "
    "`_sum`.",
    "reward",
    buckets=TILTED_REWARD_BUCKETS,
)
ACCEPTANCE_MARGIN = series.histogram(
    "gsi_acceptance_margin",
    "The selected draft candidate's tilted reward minus the job's threshold u, of the method `gsi`, if it is finite: "
    'below 0 the candidate was rejected. The bucket `le="0.0"` has the rejected ones, and ties, which are accepted. No '
    "`_sum`.",
    "reward",
    buckets=MARGIN_BUCKETS,
)
LOG_RATIO = series.histogram(
    "gsi_log_ratio",
    "log pi_B - log pi_S of the draft's candidates, where the target scored them, those that are finite. No `_sum`.",
    "nats",
    buckets=LOG_RATIO_BUCKETS,
)
TOKENS = series.counter(
    "gsi_tokens_total",
    "proposed: written by that model, discarded candidates too. scored: read by that model as candidates, counted in "
    "the language models' tokens. kept: written by that model and now part of a step.",
    "tokens",
    {"role": ROLES, "kind": ("proposed", "scored", "kept")},
    is_sparse=True,
)


def observe_step(made: Round, params: Params, phases: Mapping[str, float]) -> None:
    """Count one kept step, everything that it was made from, and where its time went (seconds)."""
    for step in made.steps:
        STEPS.labels(step.outcome).inc()
        STEPS_BY_INDEX.labels(INDICES[min(step.index, MAX_INDEX)], step.outcome).inc()
        TOKENS.labels(step.source, "kept").inc(len(step.token_ids))
    STEP_SECONDS.observe(made.seconds)
    for phase, seconds in phases.items():
        PHASE_SECONDS.labels(phase).observe(seconds)
    for proposal in made.proposals:
        CANDIDATES.labels(proposal.source).inc(len(proposal.candidates))
        TOKENS.labels(proposal.source, "proposed").inc(proposal.num_tokens)
        for role in proposal.scores:
            TOKENS.labels(role, "scored").inc(proposal.num_tokens)
            SCORING_SECONDS.labels(role).observe(proposal.scoring_seconds(role))
        for reward in filter(math.isfinite, proposal.scores.get("prm", [])):  # one NaN would spoil the sum for ever
            REWARD.observe(reward)
        for ratio in filter(math.isfinite, proposal.log_ratios):
            LOG_RATIO.observe(ratio)
    for tilted in filter(math.isfinite, made.tilted_rewards):
        TILTED_REWARD.observe(tilted)
    _observe_margin(made, params)


def _observe_margin(made: Round, params: Params) -> None:
    """Observe by how much the selected draft candidate passed the test of its tilted reward, or failed it."""
    if "acceptance_threshold" in METHODS[params.method].parameters:
        tested = made.step.rejected or made.step
        if tested.tilted_reward is not None and math.isfinite(tested.tilted_reward):
            ACCEPTANCE_MARGIN.observe(tested.tilted_reward - params.acceptance_threshold)


def observe_job(state: JobState, seconds: float) -> None:
    """Count a job that this coordinator finished."""
    JOBS.labels(state).inc()
    JOB_SECONDS.observe(seconds)


def observe_queue(backlog: Backlog, ages: Ages, set_aside: SetAside, config: QueueConfig) -> None:
    """Show what the queue holds, and whether it is paused."""
    STREAM_LAG.set(backlog.lag)
    STREAM_PENDING.set(backlog.pending)
    OLDEST_WAITING.set(ages.oldest_waiting_seconds)
    LEASE_AGE.set(ages.lease_seconds)
    DEAD_JOBS.set(set_aside.dead)
    DELAYED_JOBS.set(set_aside.delayed)
    PARKED_JOBS.set(set_aside.parked)
    QUEUE_PAUSED.set(config.is_paused)
    SUBMISSIONS_REFUSED.set(config.num_refused)
