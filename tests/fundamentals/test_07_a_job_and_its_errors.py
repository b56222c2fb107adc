"""A job is a small JSON object. One that does not fit is refused by a sentence that you can act on."""

import pytest

from gsi.errors import InvalidRequestError
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.job import Job, parse_payload


def refusal(payload: str) -> str:
    """Return the sentence that a payload is refused with."""
    with pytest.raises(InvalidRequestError) as refused:
        parse_payload(payload)
    return str(refused.value)


def test_a_prompt_is_all_that_a_job_needs() -> None:
    """Everything else has a default: the paper's, where it names one."""
    job = parse_payload('{"prompt": "What is 2 + 3?"}')
    assert [(message.role, message.content) for message in job.conversation] == [("user", "What is 2 + 3?")]
    assert (job.params.n, job.params.beta, job.params.acceptance_threshold) == (16, 20.0, 0.5)


def test_a_job_may_choose_its_parameters() -> None:
    """They are the job's own, never the server's."""
    params = parse_payload('{"prompt": "2 + 3?", "params": {"n": 4, "beta": 5, "max_steps": 3}}').params.to_params()
    assert (params.n, params.beta, params.stop.max_steps) == (4, 5.0, 3)


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        pytest.param(
            "{}",
            "prompt: missing; allowed: text of 1 to 1000000 characters, or messages in its place",
            id="no prompt",
        ),
        pytest.param(
            '{"prompt": "?", "params": {"n": 0}}',
            "params.n: 0 is not allowed; allowed: a whole number from 1 to 256",
            id="no candidates",
        ),
        pytest.param(
            '{"prompt": "?", "params": {"n": 10000}}',
            "params.n: 10000 is not allowed; allowed: a whole number from 1 to 256",
            id="too many candidates",
        ),
        pytest.param(
            '{"prompt": "?", "params": {"beta": 0}}',
            "params.beta: 0 is not allowed; allowed: a number from 0.000001 to 1000000",
            id="beta of 0",
        ),
        pytest.param(
            '{"prompt": "?", "params": {"beta": -2.5}}',
            "params.beta: -2.5 is not allowed; allowed: a number from 0.000001 to 1000000",
            id="beta below 0",
        ),
        pytest.param(
            '{"prompt": "?", "params": {"method": "magic"}}',
            'params.method: "magic" is not allowed; allowed: gsi, gsi-no-rejection, rsd, specs, soft-best-of-n, '
            "best-of-n, majority-vote, beam-search, particle-filter, dvts, draft, target, speculative-decoding",
            id="unknown method",
        ),
    ],
)
def test_a_refusal_names_the_field_what_it_was_and_what_is_allowed(payload: str, sentence: str) -> None:
    """You need not look anything up."""
    assert refusal(payload) == sentence


def test_an_unknown_parameter_is_refused_with_the_nearest_known_one() -> None:
    """A misspelt parameter is never ignored; the paper's u is known by its name here."""
    assert refusal('{"prompt": "?", "params": {"temprature": 1}}') == (
        "params.temprature: unknown; did you mean temperature?"
    )
    assert refusal('{"prompt": "?", "params": {"u": 0.5}}') == "params.u: unknown; did you mean acceptance_threshold?"


def test_what_is_not_json_is_refused_with_an_example() -> None:
    """The sentence shows what a job looks like."""
    sentence = refusal("What is 2 + 3?")
    assert sentence.startswith("job: not JSON (")
    assert sentence.endswith('allowed: an object like {"v":1,"prompt":"…"}')


def test_every_fault_is_told_at_once() -> None:
    """One sentence a fault, so that one correction is enough."""
    sentences = refusal('{"params": {"n": 0, "beta": 0}}').split("; ")
    assert [s.split(":")[0] for s in sentences[::2]] == ["prompt", "params.n", "params.beta"]


def test_a_job_without_a_seed_gets_one_from_its_id() -> None:
    """So it is repeatable all the same: the same id writes the same answer."""
    payload = parse_payload('{"prompt": "?"}')
    assert Job("a", payload).seed == Job("a", payload).seed != Job("b", payload).seed
    assert Job("a", parse_payload('{"prompt": "?", "params": {"seed": 7}}')).seed == 7


def test_the_answer_is_what_the_pattern_finds_last() -> None:
    """The default pattern reads the box that models put their answer in."""
    pattern = parse_payload('{"prompt": "?"}').params.answer_pattern
    assert AnswerFinder(pattern).find("Not \\boxed{6} but \\boxed{5}.") == "5"
