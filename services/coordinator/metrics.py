"""The coordinator's series, and the functions that feed them."""

import math
from collections.abc import Mapping

from gsi.algorithm.candidates import Outcome, Source
from gsi.algorithm.lookahead import Fate
from gsi.algorithm.methods import METHODS
from gsi.algorithm.params import Params
from gsi.algorithm.round import Round
from gsi.jobs.keys import Priority
from gsi.jobs.state import JobState
from gsi.jobs.tenant_label import TENANT_VALUES, TenantLabel
from gsi.rpc.rendezvous import Choice
from gsi.runtime.metrics import ROLES, SECONDS_BUCKETS
from gsi.runtime.series import Series

REWARD_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Tilted rewards live on the reward's scale and leave it on both sides by log_ratio / beta.
TILTED_REWARD_BUCKETS = (-2.0, -1.0, -0.5, -0.2, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5, 2.0)
MARGIN_BUCKETS = (-2.0, -1.0, -0.5, -0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 1.0, 2.0)
LOG_RATIO_BUCKETS = (-50.0, -20.0, -10.0, -5.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
JOB_SECONDS_BUCKETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 5000.0)
ANSWER_SECONDS_BUCKETS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 14_400.0, 86_400.0)

MAX_INDEX = 16  # steps from this place on share a label value
INDICES = (*map(str, range(MAX_INDEX)), f"{MAX_INDEX}+")
END_STATES = [state for state in JobState if state is not JobState.RUNNING]  # in which a run leaves its job
FINAL_STATES = [state for state in JobState if state.is_finished]
PHASES = ("draft", "score", "resample", "target", "checkpoint", "wait", "overhead")

series = Series()
STEPS = series.counter(
    "gsi_steps_total",
    "Steps kept. A method without an acceptance test counts every step as accepted. A method that keeps several "
    "trajectories counts each trajectory's new step, also if the trajectory is dropped later.",
    "steps",
    {"outcome": list(Outcome)},
)
STEPS_BY_INDEX = series.counter(
    "gsi_steps_by_index_total",
    "Steps kept, by the step's place in its answer, counted from 0. Places from 16 on share one value.",
    "steps",
    {"index": INDICES, "outcome": list(Outcome)},
)
STEP_SECONDS = series.histogram(
    "gsi_step_seconds",
    "Time that the models took for a kept step: drafting, scoring, and resampling if the step was resampled. It leaves "
    "out retries and Redis. A method that keeps several trajectories observes each round once, with its slowest "
    "trajectory.",
    "seconds",
    buckets=SECONDS_BUCKETS,
)
PHASE_SECONDS = series.histogram(
    "gsi_phase_seconds",
    "Time of a kept step by phase. The phases add up to the time from the previous step's end (or the answer's start) "
    "to the end of this step's checkpoint. draft: until the draft's last candidate. score: what scoring or "
    "judging took beyond drafting. resample: the target's proposal and its rewards, after a draft's proposal was "
    "rejected. target: the target's proposal and its rewards in a method where the target writes alone, such as "
    "`soft-best-of-n:target`. "
    "checkpoint: writing the step to Redis. wait: until the step got a slot, and until an unavailable or full service "
    "answered, failed calls included. overhead: the coordinator's own work. A method that keeps several trajectories "
    "observes each round once, with its slowest trajectory.",
    "seconds",
    {"phase": PHASES},
    buckets=SECONDS_BUCKETS,
)
SCORING_SECONDS = series.histogram(
    "gsi_scoring_seconds",
    "Time from the first candidate that the model was given to its last score, for each proposal that it scored. "
    "Drafting continues during that time, so scoring seconds and phase seconds overlap.",
    "seconds",
    {"role": ("target", "prm")},
    buckets=SECONDS_BUCKETS,
)
JOBS = series.counter(
    "gsi_jobs_total",
    "Runs of this coordinator, by the state in which a run left its job. QUEUED: the job was put off after a failure, "
    "or put back. Jobs that were cancelled while they waited had no run and are not counted.",
    "jobs",
    {"state": END_STATES},
)
ENDED = series.counter(
    "gsi_jobs_ended_total",
    "Jobs that reached a final state by a run of this coordinator. Not among them: jobs that were cancelled while they "
    "waited, and jobs that are DEAD because each of their coordinators was lost.",
    "jobs",
    {"lane": list(Priority), "state": FINAL_STATES},
)
TENANT_ENDED = series.counter(
    "gsi_tenant_jobs_ended_total",
    "The same jobs as in `gsi_jobs_ended_total`, by tenant. The first tenants that a coordinator meets have a value of "
    "their own.",
    "jobs",
    {"tenant": TENANT_VALUES, "state": FINAL_STATES},
)
TENANT_SECONDS = series.counter(
    "gsi_tenant_run_seconds_total",
    "Time of runs, by the job's tenant: its rate is how many jobs of the tenant run at once.",
    "seconds",
    {"tenant": TENANT_VALUES},
)
ANSWER_SECONDS = series.histogram(
    "gsi_answer_seconds",
    "Time from a job's submission to its answer, waiting and all attempts included: jobs that SUCCEEDED, by lane.",
    "seconds",
    {"lane": list(Priority)},
    buckets=ANSWER_SECONDS_BUCKETS,
)
JOBS_IN_FLIGHT = series.gauge("gsi_jobs_in_flight", "Jobs that this coordinator is running.", "jobs")
JOB_SECONDS = series.histogram(
    "gsi_job_seconds",
    "Time from taking a job to the end of the run, whatever its end. Runs that were handed back or lost are not "
    "counted, nor is the time in the queue.",
    "seconds",
    buckets=JOB_SECONDS_BUCKETS,
)
REDELIVERIES = series.counter(
    "gsi_redeliveries_total", "Entries that this coordinator took over from another coordinator.", "jobs"
)
LEASES_LOST = series.counter(
    "gsi_leases_lost_total",
    "Runs that were cancelled because another coordinator had taken the job. It grows when this coordinator is paused, "
    "or cut off from Redis, for longer than a lease.",
    "runs",
)
RETRIES = series.counter(
    "gsi_retries_total", "Runs of this coordinator that failed and whose job is to be tried again.", "jobs"
)
PUT_BACK = series.counter(
    "gsi_jobs_put_back_total",
    "Times that this coordinator left a job to a coordinator of a newer release, because it cannot read the job.",
    "jobs",
)
DEAD_LETTERS = series.counter(
    "gsi_dead_letters_total",
    "Jobs that are DEAD because their last attempt failed on this coordinator. Jobs that are DEAD because each of "
    "their coordinators was lost are in `gsi_dead_jobs` only.",
    "jobs",
)
STEP_LIMIT = series.gauge(
    "gsi_step_limit",
    "How many steps this coordinator runs at once: at most `GSI_COORDINATOR_MAX_JOBS`. It is halved when a service is "
    "full, and grows again as steps succeed.",
    "steps",
)
SERVICE_SERVING = series.gauge(
    "gsi_service_serving",
    "1 if the service's last health check said SERVING, else 0. This coordinator checks every few seconds.",
    "0 or 1",
    {"role": ROLES},
)
DRAFTS_AHEAD = series.counter(
    "gsi_drafts_ahead_total",
    "Drafts of a next step that were written while the last scores of the step before came in. kept: the step before "
    "was the one that the draft had continued. wasted: another one was drawn, and the draft was stopped. Always 0 "
    "without `GSI_COORDINATOR_LOOKAHEAD`.",
    "drafts",
    {"outcome": list(Fate)},
)
REPLICA_CHOICES = series.counter(
    "gsi_replica_choices_total",
    "Calls of jobs to a service with several replicas, by the choice of the replica. home: the replica on which the "
    "job is placed, which has its prefix. load: another replica, because that one had its share of the jobs or of the "
    "calls in flight. lost: another replica, because that one was away, full, or had another model. Calls to a service "
    "with one address are not counted.",
    "calls",
    {"role": ROLES, "choice": list(Choice)},
)
MODELS_INFO = series.info(
    "gsi_models_info",
    "Always 1, once this coordinator is connected. The labels name the models that work together.",
    {role: f"name of the {role}'s model, one at a time" for role in ROLES},
)
HAS_QUEUES_MODELS = series.gauge(
    "gsi_queue_models_match",
    "1: this coordinator's models are those of the queue. 0: it takes no job, because the queue has other models, or "
    "because it has not met its own yet.",
    "",
)
CANDIDATES = series.counter(
    "gsi_candidates_total", "Candidates proposed for kept steps.", "candidates", {"role": list(Source)}
)
REWARD = series.histogram(
    "gsi_reward",
    "Rewards of all candidates that the PRM rated for kept steps, after the job's reward map. A method that asks for "
    "no rewards has none. The buckets cover [0, 1].",
    "reward",
    buckets=REWARD_BUCKETS,
)
TILTED_REWARD = series.histogram(
    "gsi_tilted_reward",
    "Finite tilted rewards of the draft's candidates, of the methods `gsi` and `gsi-no-rejection`. There is no `_sum`.",
    "reward",
    buckets=TILTED_REWARD_BUCKETS,
)
ACCEPTANCE_MARGIN = series.histogram(
    "gsi_acceptance_margin",
    "Tilted reward of the selected draft candidate minus the job's threshold u, of the method `gsi`, if it is finite. "
    'Below 0 the candidate was rejected. The bucket `le="0.0"` holds the rejected candidates, and accepted candidates '
    "exactly at the threshold. There is no `_sum`.",
    "reward",
    buckets=MARGIN_BUCKETS,
)
LOG_RATIO = series.histogram(
    "gsi_log_ratio",
    "log pi_B - log pi_S of the draft's candidates that the target scored, if it is finite. There is no `_sum`.",
    "nats",
    buckets=LOG_RATIO_BUCKETS,
)
TOKENS = series.counter(
    "gsi_tokens_total",
    "Tokens of kept steps, by model. proposed: the model wrote them, also in discarded candidates. scored: the model "
    "read them in candidates, counted in the language models' tokens, or in a question about one. kept: the model "
    "wrote them and they are part of a step.",
    "tokens",
    {"role": ROLES, "kind": ("proposed", "scored", "kept")},
    is_sparse=True,
)
_tenants = TenantLabel()


def observe_step(made: Round, params: Params, phases: Mapping[str, float]) -> None:
    """Count one kept step, everything that it was made from, and its seconds by phase."""
    for step in made.steps:
        STEPS.labels(step.outcome).inc()
        STEPS_BY_INDEX.labels(INDICES[min(step.index, MAX_INDEX)], step.outcome).inc()
        TOKENS.labels(step.source, "kept").inc(len(step.token_ids))
        for judgement in step.judgements:
            TOKENS.labels(judgement.source, "scored").inc(judgement.num_tokens)
    STEP_SECONDS.observe(made.seconds)
    for phase, seconds in phases.items():
        PHASE_SECONDS.labels(phase).observe(seconds)
    for proposal in made.proposals:
        CANDIDATES.labels(proposal.source).inc(len(proposal.candidates))
        TOKENS.labels(proposal.source, "proposed").inc(proposal.num_tokens)
        for role in proposal.scores:
            TOKENS.labels(role, "scored").inc(proposal.num_tokens)
            SCORING_SECONDS.labels(role).observe(proposal.scoring_seconds(role))
        for reward in filter(math.isfinite, proposal.scores.get("prm", [])):  # one NaN would make every later sum NaN
            REWARD.observe(reward)
        for ratio in filter(math.isfinite, proposal.log_ratios):
            LOG_RATIO.observe(ratio)
    for tilted in filter(math.isfinite, made.tilted_rewards):
        TILTED_REWARD.observe(tilted)
    _observe_margin(made, params)


def _observe_margin(made: Round, params: Params) -> None:
    """Observe how far the selected draft candidate's tilted reward was above or below the threshold."""
    if "acceptance_threshold" in METHODS[params.method].parameters:
        tested = made.step.rejected or made.step
        if tested.tilted_reward is not None and math.isfinite(tested.tilted_reward):
            ACCEPTANCE_MARGIN.observe(tested.tilted_reward - params.least_tilted_reward)


def observe_ahead(fate: Fate) -> None:
    """Count a draft that was written ahead, by what became of it."""
    DRAFTS_AHEAD.labels(fate).inc()


def observe_choice(role: str, choice: Choice) -> None:
    """Count a call of a job by the choice of its replica."""
    REPLICA_CHOICES.labels(role, choice).inc()


def observe_job(state: JobState, seconds: float) -> None:
    """Count a run of this coordinator, by the state in which it left its job."""
    JOBS.labels(state).inc()
    JOB_SECONDS.observe(seconds)


def observe_tenant(tenant: str, state: JobState, seconds: float) -> None:
    """Count a run, which left its job in this state, for the job's tenant."""
    name = _tenants.name(tenant)
    for each in FINAL_STATES:  # a state that has not occurred shows 0
        TENANT_ENDED.labels(name, each)
    if state.is_finished:
        TENANT_ENDED.labels(name, state).inc()
    TENANT_SECONDS.labels(name).inc(seconds)


def observe_end(lane: Priority, state: JobState, seconds: float) -> None:
    """Count the end of a job, so many seconds after its submission."""
    ENDED.labels(lane, state).inc()
    if state is JobState.SUCCEEDED:
        ANSWER_SECONDS.labels(lane).observe(seconds)
