"""A result says the same in Python, in JSON and in its schema."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from gsi.jobs.reader import JobRecord
from gsi.jobs.result_document import ResultDocument
from gsi.jobs.state import JobState
from tests.jobs.sample import step

SCHEMA = Draft202012Validator(json.loads((Path(__file__).parents[2] / "docs" / "result.schema.json").read_text()))
QUEUED = {"state": "QUEUED", "payload": "{}", "submitted_at": "1700000000123"}
DONE = {
    **QUEUED,
    "state": "SUCCEEDED",
    "stop_reason": "eos",
    "text": "5",
    "answer": "5",
    "error": "",
    "attempt": "2",
    "params": '{"n": 4}',
    "models": '{"draft": {"model": "tiny"}}',
    "router": "ab12",
    "prompt_tokens": "12",
    "code": "1.2.0+ab",
    "started_at": "1700000001000",
    "finished_at": "1700000002500",
}


def test_a_finished_job_is_told_in_full() -> None:
    """Texts of the record become values: numbers, seconds, null for what is empty."""
    plain = JobRecord("job-1", JobState.SUCCEEDED, DONE, (step(0),)).to_dict()
    assert plain == {
        "id": "job-1",
        "state": "SUCCEEDED",
        "stop_reason": "eos",
        "error": None,
        "answer": "5",
        "text": "5",
        "reasoning": "",
        "attempt": 2,
        "params": {"n": 4},
        "models": {"draft": {"model": "tiny"}},
        "router": "ab12",
        "prompt_tokens": 12,
        "rendered_prompt": None,
        "code": "1.2.0+ab",
        "submitted_at": 1700000000.123,
        "started_at": 1700000001.0,
        "finished_at": 1700000002.5,
        "steps": [step(0).to_dict()],
    }
    SCHEMA.validate(plain)


def test_a_queued_job_has_every_field_too() -> None:
    """With null for what is not known yet."""
    plain = JobRecord("job-1", JobState.QUEUED, QUEUED).to_dict()
    assert list(plain) == list(ResultDocument.model_fields)
    assert (plain["text"], plain["attempt"], plain["answer"], plain["finished_at"]) == ("", 0, None, None)
    SCHEMA.validate(plain)


def test_a_result_is_read_back_as_it_was_written() -> None:
    """A program in Python may read the JSON with the same model."""
    written = ResultDocument.from_fields("job-1", DONE, [step(0), step(1)])
    assert ResultDocument.from_json(written.to_json()) == written
