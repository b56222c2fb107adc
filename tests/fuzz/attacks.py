"""Calls as a stranger could make them: any bytes, any numbers, any order of messages, any end."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from google.protobuf.message import Message
from hypothesis import strategies as st

from gsi.limits import MAX_MESSAGES, MAX_REQUEST_CANDIDATES, MAX_TEXT_CHARACTERS
from gsi.v1 import candidates_pb2, draft_pb2, prm_pb2, target_pb2


class Ending(StrEnum):
    """What the stranger does once its messages are sent."""

    CLOSE = "close"  # and reads all answers, as a client does
    HALF_OPEN = "half open"  # goes on as if more were to come, for a moment
    ABANDON = "abandon"  # cancels at once
    DEADLINE = "deadline"  # gives the call a hundredth of a second
    SILENT = "silent"  # sends nothing, and waits until the service has enough


@dataclass(frozen=True, slots=True)
class Attack:
    """One call: the role of the service, the path of the method, the bytes of each message, the end."""

    role: str
    path: str
    messages: tuple[bytes, ...]
    ending: Ending


def rarely(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any], one_in: int) -> st.SearchStrategy[Any]:
    """Draw from ``rare`` about once in ``one_in`` times: it costs the service, or the stranger, much time."""
    return st.integers(1, one_in).flatmap(lambda number: rare if number == one_in // 2 else usual)


U32 = st.sampled_from([0, 1, 2**31, 2**32 - 1])
TOKENS = rarely(
    st.lists(st.integers(0, 304), max_size=12),
    st.one_of(
        st.sampled_from([[1] * 510, [1] * 511, [1] * 512, [1] * 12_000, [1] * 1_000_000]),
        st.lists(st.one_of(st.integers(0, 320), U32), max_size=4),
    ),
    20,
)
TEXT = rarely(
    st.text(max_size=20) | st.sampled_from(["<|im_end|>", "<extra_0>\n\n", "\x00", ""]),
    st.sampled_from(["x" * 60_000, "x" * (MAX_TEXT_CHARACTERS + 1)]),
    300,
)
NUMBER = st.sampled_from([0.7, 1.0]) | st.floats() | st.sampled_from([0.0, 0.01, 1e-320, 100.0, -0.0])
LAW = st.builds(
    candidates_pb2.SamplingParams,
    temperature=NUMBER,
    top_p=st.just(1.0) | NUMBER,
    max_step_tokens=st.integers(1, 8) | st.sampled_from([0, 2**32 - 1]),
    likelihood=st.integers(0, 3),
)
ROLE = rarely(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=5), 5)
CHAT = rarely(
    st.lists(st.builds(candidates_pb2.ChatMessage, role=ROLE, content=TEXT), max_size=3),
    st.just([candidates_pb2.ChatMessage(role="user")] * (MAX_MESSAGES + 1)),
    100,
)
STEPS = rarely(st.lists(TEXT, max_size=3), st.just(["x"] * 513), 50)


def many(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw some candidates, and now and then more than are allowed."""
    too_many = one.map(lambda candidate: [candidate] * (MAX_REQUEST_CANDIDATES + 1))
    return rarely(st.lists(one, max_size=4), too_many, 50)


PROPOSE = st.builds(
    candidates_pb2.ProposeRequest,
    prefix_token_ids=TOKENS,
    n=st.integers(0, 4) | U32,
    sampling=LAW,
    seed=st.integers(0, 2**64 - 1),
)
JUDGE = st.builds(
    candidates_pb2.JudgeRequest,
    prefix_token_ids=TOKENS,
    question=TEXT,
    opening=TEXT,
    labels=rarely(
        st.lists(st.sampled_from("0123456789"), max_size=4) | st.lists(TEXT, max_size=3), st.just(["1"] * 1000), 20
    ),
)
RENDER = st.builds(draft_pb2.RenderPromptRequest, messages=CHAT)
SEQUENCE = st.builds(target_pb2.TokenSequence, index=U32, token_ids=TOKENS)
STEP = st.builds(prm_pb2.StepText, index=U32, text=TEXT)
TARGET_SCORE = st.builds(
    target_pb2.TargetScoreRequest,
    candidates=st.builds(target_pb2.TargetScoreCandidates, sequences=many(SEQUENCE)),
) | st.builds(
    target_pb2.TargetScoreRequest,
    header=st.builds(target_pb2.TargetScoreHeader, prefix_token_ids=TOKENS, sampling=LAW),
)
PRM_SCORE = st.builds(
    prm_pb2.PrmScoreRequest, candidates=st.builds(prm_pb2.PrmScoreCandidates, texts=many(STEP))
) | st.builds(prm_pb2.PrmScoreRequest, header=st.builds(prm_pb2.PrmScoreHeader, messages=CHAT, steps=STEPS))
INFO = st.builds(candidates_pb2.GetModelInfoRequest)

METHODS: dict[tuple[str, str], st.SearchStrategy[Any]] = {
    ("draft", "DraftService/GetModelInfo"): INFO,
    ("draft", "DraftService/RenderPrompt"): RENDER,
    ("draft", "DraftService/Propose"): PROPOSE,
    ("draft", "DraftService/Judge"): JUDGE,
    ("target", "TargetService/GetModelInfo"): INFO,
    ("target", "TargetService/Propose"): PROPOSE,
    ("target", "TargetService/Score"): TARGET_SCORE,
    ("target", "TargetService/Judge"): JUDGE,
    ("prm", "PrmService/GetModelInfo"): INFO,
    ("prm", "PrmService/Score"): PRM_SCORE,
}


def encoded(message: st.SearchStrategy[Message]) -> st.SearchStrategy[bytes]:
    """Draw the bytes of a message: as they should be, damaged, or no message at all."""
    whole = message.map(lambda one: one.SerializeToString())
    return rarely(whole, st.one_of(whole.flatmap(damaged), st.binary(max_size=30)), 6)


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Draw bytes that lack their end, or have another byte somewhere."""
    place = st.integers(0, max(len(whole) - 1, 0))
    cut = place.map(lambda at: whole[:at])
    changed = st.tuples(place, st.binary(min_size=1, max_size=1)).map(
        lambda change: whole[: change[0]] + change[1] + whole[change[0] + 1 :]
    )
    return cut | changed


ATTACKS = st.sampled_from(list(METHODS)).flatmap(
    lambda method: st.builds(
        Attack,
        role=st.just(method[0]),
        path=st.just(f"/gsi.v1.{method[1]}"),
        messages=st.lists(encoded(METHODS[method]), max_size=4).map(tuple),
        ending=st.just(Ending.CLOSE),
    )
)


def with_every_ending(attack: Attack) -> list[Attack]:
    """Return the same call with each ending but silence, which takes as long as the service allows."""
    return [replace(attack, ending=ending) for ending in Ending if ending is not Ending.SILENT]
