"""A round within the PRM's context, of which the length of a step in the PRM's own tokens is not known beforehand."""

from collections.abc import Sequence
from dataclasses import replace

from gsi.algorithm.candidates import Population
from gsi.algorithm.method import Method, Unfinished
from gsi.algorithm.ports import NoRoomError, Ports
from gsi.algorithm.round import Round

NUM_MARKS = 1  # that most PRMs read behind a candidate


async def make_in_room(
    method: Method, population: Population, growing: Sequence[Unfinished], ports: Ports, seed: int
) -> Round:
    """Make a round; if the PRM has no room for a candidate, make it again with fewer tokens at most for each.

    The second limit is the room that the PRM has, less its mark; each further one is half of that before, since the
    PRM may write a text with more tokens. Short candidates stay the same, as their random numbers do. The round depends
    on the kept steps and the seed alone, so that a job can resume. Raises NoRoomError if not one token has room.
    """
    limit = max(one.params.sampling.max_step_tokens for one in growing)
    has_failed = False
    while True:
        try:
            return await method.make_round(population, [_shorten(one, limit) for one in growing], ports, seed)
        except NoRoomError as error:
            limit = min(error.room - NUM_MARKS, limit // 2 if has_failed else limit)
            if limit < 1:
                raise
            has_failed = True


def _shorten(one: Unfinished, limit: int) -> Unfinished:
    """Return a trajectory whose candidates have so many tokens at most."""
    sampling = one.params.sampling
    shorter = replace(sampling, max_step_tokens=min(limit, sampling.max_step_tokens))
    return replace(one, params=replace(one.params, sampling=shorter))
