"""A job asks by a prompt, or by a conversation of several turns; never by both."""

from typing import Any

import pytest

from gsi.algorithm.candidates import Message
from gsi.errors import InvalidRequestError
from gsi.jobs.job import Job, parse_payload
from gsi.jobs.submission import Submission
from gsi.limits import MAX_MESSAGES

CONVERSATION = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "Five."},
    {"role": "user", "content": "And 2 + 4?"},
]


def test_a_conversation_reaches_the_chat_template_as_it_was_said() -> None:
    """Every turn is there, in order, also after the job has been through the queue."""
    job = Job("a", parse_payload({"messages": CONVERSATION}))
    pushed = parse_payload(Submission.of(job).payload)
    assert pushed.conversation == tuple(Message(turn["role"], turn["content"]) for turn in CONVERSATION)


def test_a_prompt_with_a_system_message_is_a_conversation_of_two() -> None:
    """Older programs push these; nothing changes for them."""
    payload = parse_payload({"prompt": "What is 2 + 3?", "system": "Answer in one word."})
    assert payload.conversation == (Message("system", "Answer in one word."), Message("user", "What is 2 + 3?"))


def test_the_longest_conversation_is_taken() -> None:
    """The limit on names and values leaves room for as many messages as the services take."""
    assert len(parse_payload({"messages": CONVERSATION[1:2] * MAX_MESSAGES}).conversation) == MAX_MESSAGES


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({"prompt": "?", "messages": CONVERSATION}, "messages: prompt is given, too; "),
        ({"system": "?", "messages": CONVERSATION}, "messages: system is given, too; "),
        ({"messages": CONVERSATION[:3]}, "messages.2.role: the last message is of role assistant; allowed: user"),
        ({"messages": []}, "messages: [] is not allowed; allowed: a list with 1 to 1000 elements"),
        ({"messages": CONVERSATION * 251}, "messages: "),
        ({"messages": ["?"]}, 'messages.0: "?" is not allowed; allowed: an object with role and content'),
        ({"messages": [{"role": "tool", "content": "?"}]}, 'messages.0.role: "tool" is not allowed; allowed: system, '),
        ({"messages": [{"role": "user"}]}, "messages.0.content: missing; allowed: text of 0 to 1000000 characters"),
        ({"messages": [{"role": "user", "content": "?", "name": "x"}]}, "messages.0.name: unknown; allowed: role, "),
    ],
)
def test_a_conversation_that_is_wrong_is_refused_with_its_place(payload: dict[str, Any], error: str) -> None:
    """A client need not look for the message at fault."""
    with pytest.raises(InvalidRequestError) as raised:
        parse_payload(payload)
    assert str(raised.value).startswith(error)
