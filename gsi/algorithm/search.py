"""The loop of methods that keep several trajectories: rounds until every trajectory is finished."""

from gsi.algorithm.candidates import Population, grown
from gsi.algorithm.generate import Keep, has_boxed_answer, limited
from gsi.algorithm.params import Params
from gsi.algorithm.parts import MakeRound, Unfinished
from gsi.algorithm.ports import Ports
from gsi.algorithm.stopping import HasAnswer, stop_reason


async def search(
    population: Population,
    params: Params,
    ports: Ports,
    seed: int,
    *,
    make_round: MakeRound,
    keep: Keep,
    max_length: int,
    has_answer: HasAnswer = has_boxed_answer,
) -> Population:
    """Let every trajectory grow until it is finished, each by the rules and within the limits of a single one.

    Each round is given to ``keep`` before the next one starts: a caller that stores it can resume from there with the
    same result. ``max_length`` is the models' context in tokens.
    """

    def unfinished() -> list[Unfinished]:
        return [
            Unfinished(place, trajectory, limited(params, trajectory, max_length))
            for place, trajectory in enumerate(population)
            if stop_reason(trajectory, params.stop, has_answer, max_length) is None
        ]

    while growing := unfinished():
        made = await make_round(population, growing, ports, seed)
        await keep(made)
        population = grown(population, made.branches)
    return population
