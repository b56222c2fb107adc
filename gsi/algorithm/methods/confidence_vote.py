"""A vote of whole responses, weighted by confidence, that ends hopeless responses early (DeepConf, arXiv 2508.15260).

The first responses, the warm-up, are written to their end. The threshold is a percentile of their lowest confidences.
Of the others, a response whose confidence falls below the threshold ends, and has no vote. The vote ends once the
winner has enough of all weights, or once no vote to come can change the winner.
"""

from collections.abc import Sequence

from gsi.algorithm.candidates import Population
from gsi.algorithm.confidence import lowest_confidence, percentile
from gsi.algorithm.method import Answers, Method, Unfinished, in_every_job, in_no_job
from gsi.algorithm.methods.responses import count_votes, find_winner, start_with_n, write_unrated
from gsi.algorithm.params import Params


def find_threshold(population: Population, params: Params) -> float:
    """Return the lowest confidence that a response may have, once the warm-up is finished."""
    warm_up = population[: params.num_warm_up_responses]
    return percentile([lowest_confidence(one) for one in warm_up], params.vote_percentile)


def pick(population: Population, unfinished: Sequence[Unfinished], _seed: int) -> Sequence[Unfinished]:
    """Return the warm-up until it is finished, then the other responses that are not below the threshold."""
    if not unfinished:
        return ()
    params = unfinished[0].params
    if warm_up := [one for one in unfinished if one.place < params.num_warm_up_responses]:
        return warm_up
    threshold = find_threshold(population, params)
    return [one for one in unfinished if lowest_confidence(one.trajectory) >= threshold]


def weigh(population: Population, params: Params) -> list[float]:
    """Return the weight of each response's vote: its lowest confidence, 0 below the threshold."""
    threshold = find_threshold(population, params)
    confidences = [lowest_confidence(one) for one in population]
    return [confidence if confidence >= threshold else 0.0 for confidence in confidences]


async def is_decided(population: Population, growing: Sequence[Unfinished], answers: Answers) -> bool:
    """Return whether the vote ends: by consensus, or because the growing responses cannot change the winner.

    No response can weigh more at its end than now.
    """
    params = growing[0].params
    if growing[0].place < params.num_warm_up_responses:
        return False
    votes = await count_votes(population, answers, weigh(population, params))
    if not votes:
        return False
    winner = find_winner(votes)
    others = [weight for first, weight in votes.items() if first != winner]
    to_come = sum(lowest_confidence(one.trajectory) for one in growing)
    has_consensus = params.vote_consensus is not None and votes[winner] >= params.vote_consensus * sum(votes.values())
    return has_consensus or votes[winner] > max(others, default=0.0) + to_come


async def choose_heaviest_votes(population: Population, params: Params, answers: Answers, _seed: int) -> int:
    """Return the place of the first response whose answer has the most weight. No answer, no vote."""
    votes = await count_votes(population, answers, weigh(population, params))
    return find_winner(votes) if votes else 0


CONFIDENCE_VOTE = Method(
    name="confidence-vote",
    summary=(
        "`majority-vote` weighted by confidence: a response of low confidence ends early, and so does the vote once "
        "its winner is clear"
    ),
    source="Fu et al., 2025 (arXiv 2508.15260), online",
    make_round=write_unrated,
    start=start_with_n,
    pick=pick,
    is_decided=is_decided,
    choose=choose_heaviest_votes,
    asks_rewards=in_no_job,
    is_search=in_every_job,
    parameters=("n", "role", "vote_warmup", "vote_percentile", "vote_consensus"),
)
