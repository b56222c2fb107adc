"""What ``gsi`` shows of a queue's and a model's text: no control sequence, no markup, and exact JSON."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.cli.render import render_demo
from gsi.cli.terminal import out, show_event
from gsi.jobs.connection import Redis
from gsi.jobs.keys import Keys
from gsi.jobs.policy import Policy
from gsi.jobs.state import JobState
from gsi.jobs.stream import JobStream
from gsi.jobs.submitter import JobSubmitter
from gsi.jobs.writer import JobResult, JobWriter
from tests.jobs.sample import JOB, step, take

HOSTILE = "a\x1b[31mred\x1b]0;title\x1b\\ \x9b2J\x7f\u202e [/x] [bold]\ttab\x07"
SHOWN = "a�[31mred�]0;title�\\ �2J�� [/x] [bold]"
LINE = f"{HOSTILE}\n{HOSTILE}"

Gsi = Callable[..., Awaitable[Result]]


@pytest.fixture
def gsi(redis_url: str, queue: str) -> Gsi:
    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--redis-url", redis_url, "--queue", queue])

    return lambda *arguments: asyncio.to_thread(invoke, *arguments)


async def run_job(redis: Redis, queue: str, end: JobResult | None) -> None:
    """Run JOB with a step of hostile text to its end; to its death, if there is none."""
    keys = Keys(queue)
    writer, stream = JobWriter(redis, keys, Policy(max_attempts=1)), JobStream(redis, keys, "worker-1")
    await stream.create_group()
    await JobSubmitter(redis, keys).submit(JOB)
    lease = await take(writer, stream)
    await writer.append_step(lease, step(0, LINE))
    if end is not None:
        await writer.commit(lease, end)
    else:
        await writer.retry(lease, HOSTILE, 0)


def check(shown: str, times: int = 1) -> None:
    """Check that the hostile text is shown so often, and nothing of it reaches the terminal."""
    assert " ".join(shown.split()).count(SHOWN) == times  # a line may be wrapped
    assert not [character for character in shown if not character.isprintable() and character not in "\n\t"]


async def test_a_result_is_shown_without_control_characters(redis: Redis, queue: str, gsi: Gsi) -> None:
    """Its text keeps its lines; how it ended stays one line. JSON says what the model wrote, exactly."""
    await run_job(redis, queue, JobResult(JobState.SUCCEEDED, text=LINE, answer=LINE, stop_reason="eos"))
    result = await gsi("result", JOB.id)
    check(result.stdout, 2)
    assert len(result.stdout.splitlines()) == 2
    check(result.stderr, 2)
    assert len(result.stderr.splitlines()) == 1
    as_json = (await gsi("result", JOB.id, "--json")).stdout
    check(as_json, 0)
    assert (json.loads(as_json)["text"], json.loads(as_json)["steps"][0]["text"]) == (LINE, LINE)


async def test_steps_and_a_reason_are_shown_without_control_characters(redis: Redis, queue: str, gsi: Gsi) -> None:
    """The reason is what somebody wrote who cancelled the job."""
    await run_job(redis, queue, JobResult(JobState.CANCELLED, error=LINE))
    followed = (await gsi("follow", JOB.id)).stdout
    check(followed, 4)
    assert len(followed.splitlines()) == 2


async def test_dead_jobs_are_shown_without_control_characters(redis: Redis, queue: str, gsi: Gsi) -> None:
    """In a table, and alone."""
    await run_job(redis, queue, None)
    listed = (await gsi("dead", "list")).stdout
    check(listed)
    check((await gsi("dead", "show", JOB.id)).stdout, 1 + 2)
    as_json = (await gsi("dead", "list", "--json")).stdout
    check(as_json, 0)
    assert json.loads(as_json)[0]["error"] == HOSTILE


async def test_an_error_is_shown_without_control_characters(gsi: Gsi) -> None:
    """It quotes what a client wrote."""
    refused = await gsi("submit", "x", "-p", "n=\x1b[31m")
    assert refused.exit_code == 2
    check(refused.stderr, 0)
    assert "params.n: " in refused.stderr


@pytest.mark.parametrize("level", ["warning", None])
def test_an_event_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], level: str | None) -> None:
    """A value such as ``[/x]`` is no markup: to read it as such ended the supervisor of the process."""
    event = {"event": "answers differ", "given": LINE} if level else {"event": "ready", "address": HOSTILE}
    show_event("coordinator-1", {"level": level, **event})
    shown = capsys.readouterr().err.replace("\n", " ")
    check(shown, 2 if level else 1)
    assert "coordinator-1" in shown


def test_an_answer_in_a_demo_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    """The table of a demo shows it as the model wrote it."""
    out.print(render_demo([{"prompt": "p", "answer": "[/x]", "expected": "5", "correct": False, "steps": []}]))
    assert "[/x]" in capsys.readouterr().out


def test_a_log_on_a_terminal_is_shown_without_control_characters() -> None:
    """Its events quote jobs, too."""
    script = (
        "import sys, structlog\nfrom gsi.runtime.process_log import configure_logging\n"
        "configure_logging('coordinator', 'console')\nstructlog.get_logger().warning('x', given=sys.argv[1])"
    )
    command = [sys.executable, "-c", script, HOSTILE.replace("\x07", "")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"})
    assert "]0;title" in ran.stderr
    assert "\x1b]0;" not in ran.stderr
    assert "\x9b" not in ran.stderr
