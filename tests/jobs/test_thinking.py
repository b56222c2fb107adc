"""Where a text's reasoning trace ends, what a job of a thinking model has as limits, and which answer counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gsi.algorithm.params import DEFAULT_ANSWER_PATTERN
from gsi.jobs.answer_pattern import AnswerFinder
from gsi.jobs.job_params import JobParams
from gsi.jobs.thinking import split_reasoning

BOTH = "<think>\nIt is \\boxed{8}.\n</think>\n\nIt is \\boxed{7}."


@pytest.mark.parametrize(
    ("text", "thinking", "reasoning", "answer"),
    [
        (BOTH, None, "It is \\boxed{8}.", "It is \\boxed{7}."),
        (BOTH, True, "It is \\boxed{8}.", "It is \\boxed{7}."),
        (BOTH, False, "", BOTH),
        ("It is 8.\n</think>\n7", True, "It is 8.", "7"),  # the prompt ends with <think>
        ("It is 8.\n</think>\n7", None, "", "It is 8.\n</think>\n7"),
        ("<think>\nIt is", None, "It is", ""),  # the trace is not finished
        ("<think>\n\n</think>\n\n7", None, "", "7"),  # asked not to think, Qwen3 writes an empty trace
        ("7 <think> 8 </think>", None, "", "7 <think> 8 </think>"),
        ("", True, "", ""),
    ],
)
def test_a_text_is_reasoning_and_answer(text: str, thinking: bool | None, reasoning: str, answer: str) -> None:
    """By the job's word, or by the text's own beginning."""
    assert split_reasoning(text, thinking) == (reasoning, answer)


@given(st.text("a\n<", max_size=20), st.sampled_from([None, False]))
def test_a_text_without_a_trace_is_not_changed(text: str, thinking: bool | None) -> None:
    """No job of an ordinary model has another text than before."""
    assert split_reasoning(text, thinking) == ("", text)


def test_an_answer_in_the_trace_is_none() -> None:
    """It neither ends the job nor votes."""
    finder = AnswerFinder(DEFAULT_ANSWER_PATTERN)
    assert finder.find(BOTH) == "7"
    assert not finder.has_answer(BOTH.partition("</think>")[0])
    assert AnswerFinder(DEFAULT_ANSWER_PATTERN, thinking=False).find(BOTH.partition("</think>")[0]) == "8"


@pytest.mark.parametrize(
    ("given_params", "limits"),
    [
        ({}, (45, 4096)),
        ({"thinking": False}, (45, 4096)),
        ({"thinking": True}, (1000, 32_768)),
        ({"thinking": True, "max_steps": 7}, (7, 32_768)),
        ({"thinking": True, "method": "gsi:authors"}, (1000, 32_768)),
    ],
)
def test_a_thinking_job_has_limits_that_fit_a_trace(given_params: dict[str, Any], limits: tuple[int, int]) -> None:
    """Unless it says its own: each paragraph of a trace is a step."""
    params = JobParams.model_validate(given_params)
    assert (params.max_steps, params.max_tokens) == limits
