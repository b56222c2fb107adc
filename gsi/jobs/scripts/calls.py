"""One function for each Lua script. Its parameters are the script's keys and arguments, in the script's order.

A parameter with a default is a constant of every queue, or comes from the table of transitions: callers leave it out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from redis.exceptions import ResponseError

from gsi.jobs.keys import GROUP, JOB_FIELD, MAX_DEAD, MAX_DELAY_MS, MAX_KEPT_PAYLOAD_BYTES, MAX_RESULTS, Key
from gsi.jobs.scripts.loader import lua_script, moves_of
from gsi.jobs.state import JobState

KEY_HAS_MOVED = -1  # in the answer of ``submit``
IS_ANOTHER = -2


class Taken(NamedTuple):
    """What ``take`` gives a job's new writer."""

    token: int
    attempt: int
    age_ms: int
    submitted_ms: int


def _decode_submissions(answer: Sequence[bytes | int | ResponseError]) -> list[str | int | ResponseError]:
    return [each.decode() if isinstance(each, bytes) else each for each in answer]


def _decode_take(answer: list[int] | None) -> Taken | None:
    return Taken(*answer) if answer else None


def _decode_text(answer: bytes | None) -> str | None:
    return None if answer is None else answer.decode()


def _decode_state(answer: bytes | None) -> JobState | None:
    return None if answer is None else JobState(answer.decode())


def _decode_cancel(answer: bytes | int | None) -> JobState | int | None:
    if isinstance(answer, int):
        return answer
    return JobState.QUEUED if answer == b"" else _decode_state(answer)  # an unseen job waits


def _decode_texts(answer: Sequence[bytes]) -> list[str]:
    return [each.decode() for each in answer]


@lua_script(_decode_submissions)
def submit(
    *,
    config: Key,
    delayed: Key,
    high: Key,
    normal: Key,
    low: Key,
    job_keys: Sequence[Key],
    payload_field: str = JOB_FIELD,
    queued: str = JobState.QUEUED,
    moves: str = moves_of("submit"),
    job_values: Sequence[str],
) -> None:
    """Write the records of jobs and push them, in order, up to the first that cannot be pushed now.

    Return the id of each, or the earlier job's. If it stops, the reason comes last: the number of jobs of a full queue;
    ``KEY_HAS_MOVED`` if the idempotency key has another job now than the earlier one of its values; ``IS_ANOTHER`` if
    the job of this id has another payload; an error.
    """


@lua_script(_decode_take)
def take(
    *,
    record: Key,
    lane: Key,
    steps: Key,
    results: Key,
    tenants: Key,
    dead_letters: Key,
    parked: Key,
    parked_tenants: Key,
    config: Key,
    job_id: str,
    entry: str,
    consumer: str,
    nonce: str,
    tenant: str,
    max_attempts: int,
    max_in_flight: int,
    dead_ms: int,
    group: str = GROUP,
    payload_field: str = JOB_FIELD,
    max_results: int = MAX_RESULTS,
    max_dead: int = MAX_DEAD,
    running: str = JobState.RUNNING,
    queued: str = JobState.QUEUED,
    dead: str = JobState.DEAD,
    cancelled: str = JobState.CANCELLED,
    moves: str = moves_of("take"),
) -> None:
    """Make a consumer the job's only writer. Return None if there is nothing to run now."""


@lua_script(bool)
def append_step(
    *,
    record: Key,
    steps: Key,
    token: int,
    nonce: str,
    index: int,
    step: str,
    running: str = JobState.RUNNING,
    fields: Mapping[str, str],
) -> None:
    """Keep a step. Return False if the lease was lost. Raises ResponseError for a step that does not follow."""


@lua_script(bool)
def commit(
    *,
    record: Key,
    lane: Key,
    steps: Key,
    results: Key,
    tenants: Key,
    job_id: str,
    token: int,
    nonce: str,
    entry: str,
    lifetime_ms: int,
    group: str = GROUP,
    max_results: int = MAX_RESULTS,
    ending: str,
    moves: str = moves_of("commit"),
    max_payload_bytes: int = MAX_KEPT_PAYLOAD_BYTES,
    fields: Mapping[str, str],
) -> None:
    """End a job. Return False if the lease was lost."""


@lua_script(_decode_state)
def retry(
    *,
    record: Key,
    lane: Key,
    steps: Key,
    results: Key,
    tenants: Key,
    dead_letters: Key,
    delayed: Key,
    job_id: str,
    token: int,
    nonce: str,
    entry: str,
    error: str,
    delay_ms: int,
    max_attempts: int,
    dead_ms: int,
    counts: bool,
    group: str = GROUP,
    max_results: int = MAX_RESULTS,
    max_dead: int = MAX_DEAD,
    queued: str = JobState.QUEUED,
    dead: str = JobState.DEAD,
    cancelled: str = JobState.CANCELLED,
    moves: str = moves_of("retry"),
) -> None:
    """Put a job off, or bury it. Return the state that it is in; None if the lease was lost."""


@lua_script(bool)
def announce(*, config: Key, payload_format: int, window_ms: int) -> None:
    """Note that a coordinator reads payloads of a format. Return whether a newer one was seen within the window."""


@lua_script(bool)
def claim_models(*, config: Key, noted: str, models: str) -> None:
    """Replace the models of a queue. Return False if they are no longer those that the caller has read."""


@lua_script(_decode_texts)
def find_due(*, delayed: Key, limit: int, max_delay_ms: int = MAX_DELAY_MS) -> None:
    """Return the ids of jobs whose delay is over."""


@lua_script(bool)
def promote(
    *,
    record: Key,
    lane: Key,
    delayed: Key,
    job_id: str,
    payload_field: str = JOB_FIELD,
    queued: str = JobState.QUEUED,
    moves: str = moves_of("promote"),
) -> None:
    """Push a job again whose delay is over. Return whether this call pushed it."""


@lua_script(bool)
def unpark(
    *,
    record: Key,
    lane: Key,
    tenants: Key,
    parked: Key,
    parked_tenants: Key,
    job_id: str,
    tenant: str,
    max_in_flight: int,
    payload_field: str = JOB_FIELD,
    queued: str = JobState.QUEUED,
    moves: str = moves_of("unpark"),
) -> None:
    """Push a tenant's first parked job again. Return False if it must stay parked, or is not the first."""


@lua_script(_decode_cancel)
def cancel(
    *,
    record: Key,
    steps: Key,
    results: Key,
    tenants: Key,
    delayed: Key,
    parked: Key,
    parked_tenants: Key,
    job_id: str,
    tenant: str,
    reason: str,
    may_be_unseen: bool,
    lifetime_ms: int,
    max_results: int = MAX_RESULTS,
    cancelled: str = JobState.CANCELLED,
    moves: str = moves_of("cancel"),
    moves_of_commit: str = moves_of("commit"),
) -> None:
    """Cancel a job that waits, ask a running job to stop.

    Return the state that it was in; None if there is no job; 0 if the job has another tenant than ``tenant``.
    """


@lua_script(_decode_text)
def set_idle(
    *,
    record: Key,
    lane: Key,
    token: int,
    nonce: str,
    entry: str,
    consumer: str,
    idle_ms: int,
    group: str = GROUP,
    running: str = JobState.RUNNING,
) -> None:
    """Renew a lease or hand its job back. Return why the job is to be cancelled, or ""; None if the lease was lost."""


@lua_script(int)
def read_clock(*, key: Key) -> None:
    """Return the server's time in milliseconds since 1970."""


@lua_script(bool)
def revive(
    *,
    record: Key,
    lane: Key,
    steps: Key,
    dead_letters: Key,
    job_id: str,
    payload_field: str = JOB_FIELD,
    queued: str = JobState.QUEUED,
    moves: str = moves_of("revive"),
    letters: Sequence[str],
) -> None:
    """Push a dead job again. Return False if it is not dead."""


@lua_script(bool)
def purge(*, record: Key, steps: Key, dead_letters: Key, letter: str, moves: str = moves_of("purge")) -> None:
    """Delete a dead letter and its dead job. Return whether there was such a letter."""


@lua_script(bool)
def forget(*, record: Key, lane: Key, steps: Key, moves: str = moves_of("forget")) -> None:
    """Delete a finished job. Return whether it was deleted."""


@lua_script(bool)
def discard(
    *,
    lane: Key,
    dead_letters: Key,
    job_id: str,
    entry: str,
    consumer: str,
    error: str,
    group: str = GROUP,
    max_dead: int = MAX_DEAD,
) -> None:
    """Free an entry that cannot be taken. Return False if it is another consumer's."""


@lua_script(bool)
def remove_consumer(*, lane: Key, consumer: str, group: str = GROUP) -> None:
    """Remove a consumer of a lane. Return False if it holds an entry."""


def _decode_wrong(answer: Sequence[bytes] | None) -> list[str] | None:
    return None if answer is None else _decode_texts(answer)


def _decode_surplus(answer: int | None) -> int | None:
    return answer


@lua_script(_decode_wrong)
def check_job(
    *,
    record: Key,
    lane: Key,
    steps: Key,
    results: Key,
    tenants: Key,
    delayed: Key,
    parked: Key,
    parked_tenants: Key,
    config: Key,
    job_id: str,
    tenant: str,
    lifetime_ms: int,
    repair: bool,
    group: str = GROUP,
    payload_field: str = JOB_FIELD,
    max_results: int = MAX_RESULTS,
    queued: str = JobState.QUEUED,
    failed: str = JobState.FAILED,
    moves: str = moves_of("check_job"),
) -> None:
    """Return what is wrong with a job, and mend it if asked to. None: the job has another tenant than ``tenant``."""


@lua_script(bool)
def check_entry(*, record: Key, lane: Key, entry: str, repair: bool, group: str = GROUP) -> None:
    """Return whether an entry will never be delivered, and push its job again if asked to."""


@lua_script(bool)
def check_parked_tenant(*, parked: Key, parked_tenants: Key, tenant: str, repair: bool) -> None:
    """Return whether the set of tenants with parked jobs is wrong about a tenant, and correct it if asked to."""


@lua_script(_decode_surplus)
def check_tenant(*, tenants: Key, records: Sequence[Key], tenant: str, seen: int, repair: bool) -> None:
    """Return how many places in flight a tenant's count has too many. None: it has changed since it was read."""


@lua_script(bool)
def settle_account(*, accounts: Key, record: Key, request: str, num_tokens: int) -> None:
    """Count the tokens of a request against its key, and close its account. Return whether it was open until now."""
