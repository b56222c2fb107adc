"""``gsi queue`` and what a submission meets when the queue is full, against a real server."""

import json

from typer.testing import CliRunner, Result

from gsi.client.cli import app


def gsi(redis_url: str, queue: str, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--redis-url", redis_url, "--queue", queue])


def test_a_queue_is_paused_limited_and_looked_at(redis_url: str, queue: str) -> None:
    """Each command says what is so now; the figures are one JSON object for scripts."""
    assert "is paused" in gsi(redis_url, queue, "queue", "pause").stderr
    assert gsi(redis_url, queue, "queue", "limit", "1").exit_code == 0
    job_id = gsi(redis_url, queue, "submit", "2 + 3").stdout.strip()
    assert job_id
    stats = json.loads(gsi(redis_url, queue, "queue", "stats", "--json").stdout)
    assert (stats["is_paused"], stats["max_jobs"], stats["entries"]["normal"]) == (True, 1, 1)
    shown = gsi(redis_url, queue, "queue", "stats").stdout
    assert "PAUSED" in shown
    assert "records" in shown
    assert "goes on" in gsi(redis_url, queue, "queue", "resume").stderr
    assert gsi(redis_url, queue, "queue", "limit", "0").exit_code == 0
    assert json.loads(gsi(redis_url, queue, "queue", "stats", "--json").stdout)["max_jobs"] is None


def test_a_submission_to_a_full_queue_is_told_when_to_come_back(redis_url: str, queue: str) -> None:
    """With the exit code of what may go better later."""
    gsi(redis_url, queue, "queue", "limit", "1")
    assert gsi(redis_url, queue, "submit", "first").exit_code == 0
    refused = gsi(redis_url, queue, "submit", "second")
    assert refused.exit_code == 75
    assert f"queue {queue} is full: 1 jobs; come back in" in refused.stderr


def test_a_wrong_limit_is_refused(redis_url: str, queue: str) -> None:
    """The sentence says what is allowed."""
    refused = gsi(redis_url, queue, "queue", "limit", "20000000")
    assert refused.exit_code == 2
    assert "max_jobs: 20000000 is not allowed; allowed: 1 to 10000000, or none" in refused.stderr
