"""A checked job in the form in which it is pushed, and jobs grouped by what one script may push at a time."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from hashlib import blake2b
from typing import Self

from pydantic_core import from_json, to_json

from gsi.jobs.job import Job
from gsi.jobs.keys import Priority
from gsi.jobs.payload import JobPayload

# A script runs alone: it may take some milliseconds, and Redis holds all that it was given.
MAX_TOGETHER = 200
MAX_TOGETHER_CHARACTERS = 2**20  # after which no further job is added


@dataclass(frozen=True, slots=True)
class Submission:
    """What a submitter needs to know of a job. ``payload`` is its JSON, which names its id.

    ``digest`` tells another question by the same id: of what the payload says but its id and its trace, as checked, so
    that neither the order of its fields nor 20 for 20.0 matters. A default that is written out does.
    """

    job_id: str
    tenant: str
    priority: Priority
    idempotency_key: str | None
    payload: str
    digest: str

    @classmethod
    def of(cls, job: Job) -> Self:
        payload = job.payload if job.payload.id == job.id else job.payload.model_copy(update={"id": job.id})
        written = payload.model_dump_json(exclude_unset=True)
        digest = digest_question(payload)
        return cls(job.id, payload.tenant, payload.priority, payload.idempotency_key, written, digest)

    def to_line(self) -> bytes:
        """Return a line of JSON, which ``from_line`` reads."""
        return to_json(astuple(self)) + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        job_id, tenant, priority, *rest = from_json(line)
        return cls(job_id, tenant, Priority(priority), *rest)


def digest_question(payload: JobPayload) -> str:
    """Return a digest of what a payload says but its id and its trace."""
    question = payload.model_dump(mode="json", exclude_unset=True, exclude={"id", "traceparent"})
    return blake2b(json.dumps(question, sort_keys=True).encode(), digest_size=16).hexdigest()


def in_groups(jobs: Iterable[Submission]) -> Iterator[list[Submission]]:
    """Yield the jobs in order, in groups that a script may push at a time. Reads no further than the group."""
    group: list[Submission] = []
    num_characters = 0
    for job in jobs:
        group.append(job)
        num_characters += len(job.payload)
        if len(group) == MAX_TOGETHER or num_characters >= MAX_TOGETHER_CHARACTERS:
            yield group
            group, num_characters = [], 0
    if group:
        yield group
