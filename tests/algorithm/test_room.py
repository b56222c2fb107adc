"""A round is made again with fewer tokens where the PRM has no room for it, and not for ever."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gsi.algorithm.candidates import Population
from gsi.algorithm.method import Unfinished
from gsi.algorithm.params import Params, SamplingParams
from gsi.algorithm.ports import NoRoomError, Ports
from gsi.algorithm.room import make_in_room
from tests.algorithm.worlds import START

MAX_STEP_TOKENS = 500
PARAMS = replace(Params(), sampling=SamplingParams(max_step_tokens=MAX_STEP_TOKENS))
GROWING = (Unfinished(0, START, PARAMS),)


@dataclass
class Rounds:
    """A method whose longest candidate has ``longest`` tokens, or fewer by the limit, and a PRM with ``room`` for it.

    The PRM reads ``finer`` tokens for each of the candidate's, and a mark.
    """

    longest: int
    room: int
    finer: float = 1.0
    limits: list[int] = field(default_factory=list)  # of the rounds that were made

    async def make_round(self, _: Population, growing: Sequence[Unfinished], ports: Ports, seed: int) -> Any:
        (one,) = growing
        self.limits.append(one.params.sampling.max_step_tokens)
        num_tokens = min(self.longest, self.limits[-1])
        if self.finer * num_tokens + 1 > self.room:
            raise NoRoomError("too long", self.room)
        return num_tokens


async def make(rounds: Rounds) -> Any:
    method: Any = rounds
    ports: Any = None
    return await make_in_room(method, (START,), GROWING, ports, 1)


async def test_a_round_that_fits_is_made_once() -> None:
    """With the limit that it had."""
    rounds = Rounds(longest=400, room=401)
    assert await make(rounds) == 400
    assert rounds.limits == [MAX_STEP_TOKENS]


@pytest.mark.parametrize("longest", [200, 400, MAX_STEP_TOKENS, 10_000])
@pytest.mark.parametrize("room", [2, 7, 150])
async def test_a_prm_with_the_same_tokens_costs_one_more_round(longest: int, room: int) -> None:
    """Its answer says exactly how long a candidate may be, less the mark."""
    rounds = Rounds(longest, room)
    assert await make(rounds) == room - 1
    assert rounds.limits == [MAX_STEP_TOKENS, room - 1]


@pytest.mark.parametrize("room", [10, 150, 399])
async def test_a_prm_with_finer_tokens_costs_a_few(room: int) -> None:
    """The limit is halved until the candidates fit."""
    rounds = Rounds(10_000, room, finer=3.0)
    assert 1 <= await make(rounds) <= room / 3
    assert len(rounds.limits) == 4


@pytest.mark.parametrize("room", [0, 1])
async def test_without_room_for_a_token_no_second_round_is_made(room: int) -> None:
    """The prefix alone fills the PRM."""
    rounds = Rounds(longest=10, room=room)
    with pytest.raises(NoRoomError):
        await make(rounds)
    assert len(rounds.limits) == 1
