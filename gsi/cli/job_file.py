"""Jobs from a file or standard input, which is read line by line: all are checked before any is pushed."""

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from gsi.client.sdk import check_job
from gsi.errors import InvalidRequestError
from gsi.jobs.job import parse_payload
from gsi.jobs.payload import JobPayload
from gsi.jobs.submission import Submission
from gsi.limits import MAX_PAYLOAD_BYTES

NameJob: TypeAlias = Callable[[JobPayload], str]

MEMORY_BYTES = 16 * 2**20  # of checked jobs; more are kept in a temporary file
LINE_BYTES = MAX_PAYLOAD_BYTES + 2  # with the line's end; a longer line is refused, and not read to its end


@contextmanager
def keep_all(jobs: Iterable[Submission]) -> Iterator[Iterator[Submission]]:
    """Read any number of jobs, and yield them, in order; their memory is bounded.

    Raises InvalidRequestError if there are none, and what reading them raises.
    """
    with tempfile.SpooledTemporaryFile(MEMORY_BYTES) as lines:
        for job in jobs:
            lines.write(job.to_line())  # writelines would keep them all in memory first
        if not lines.tell():
            raise InvalidRequestError(
                'nothing to submit; allowed: a prompt (gsi submit "…"), or a file with a job a line'
            )
        lines.seek(0)
        yield map(Submission.from_line, lines)


def read_jobs(file: str, params: Mapping[str, Any], name_job: NameJob | None = None) -> Iterator[Submission]:
    """Yield the job of each line of a JSONL file ("-": standard input), checked, with ``params`` instead of its own.

    ``name_job`` gives an id to a payload that names none; by default it gets another one each time.
    Raises InvalidRequestError that names the line.
    """
    with ExitStack() as stack:
        try:
            lines: BinaryIO = sys.stdin.buffer if file == "-" else stack.enter_context(Path(file).open("rb"))
            for number, line in enumerate(iter(lambda: lines.readline(LINE_BYTES), b""), start=1):
                if line.strip():
                    yield _read_line(f"{file} line {number}", line, params, name_job)
        except OSError as error:
            raise InvalidRequestError(f"file {file}: {error.strerror}") from None


def check_with(
    params: Mapping[str, Any], raw: bytes | Mapping[str, Any], name_job: NameJob | None = None
) -> Submission:
    """Check a payload, and then also with ``params`` instead of its own. Raises InvalidRequestError."""
    payload = parse_payload(raw)
    if params:
        written = payload.model_dump(mode="json", exclude_unset=True)
        payload = parse_payload({**written, "params": {**written.get("params", {}), **params}})
    if payload.id is None and name_job is not None:
        payload = payload.model_copy(update={"id": name_job(payload)})
    return check_job(payload)


def _read_line(place: str, line: bytes, params: Mapping[str, Any], name_job: NameJob | None) -> Submission:
    try:
        return check_with(params, line, name_job)
    except InvalidRequestError as error:
        raise InvalidRequestError(f"{place}: {error}") from None
