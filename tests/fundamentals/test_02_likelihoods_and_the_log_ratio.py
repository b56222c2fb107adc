"""Both models say how likely a candidate is. The difference of the logarithms says whose step it is."""

import math

import pytest

from gsi.algorithm.candidates import Candidate, Score
from gsi.algorithm.params import Likelihood, SamplingParams
from gsi.algorithm.ports import CandidateBatches
from gsi.algorithm.tilting import log_ratio
from tests.fundamentals.tiny import BAD, GOOD, TARGET, candidate


async def target_scores(*candidates: Candidate) -> list[Score]:
    async def stream() -> CandidateBatches:
        yield candidates

    return [score async for batch in TARGET.score((), SamplingParams(), stream()) for score in batch]


async def test_the_target_scores_what_the_draft_has_written() -> None:
    """It reads the candidate's own token ids and returns log pi_B, in nats."""
    scores = await target_scores(candidate(0, GOOD, math.log(0.4)), candidate(1, BAD, math.log(0.4)))
    assert scores == [Score(0, math.log(0.7)), Score(1, math.log(0.1))]


async def test_what_the_target_would_never_write_has_log_likelihood_minus_infinity() -> None:
    """That is an answer, not an error: such a candidate is never accepted."""
    assert await target_scores(candidate(0, "2 + 3 = fish\n\n", -1.0)) == [Score(0, -math.inf)]


def test_the_log_ratio_is_above_0_where_the_target_likes_the_step_better() -> None:
    """log(pi_B / pi_S) = log pi_B - log pi_S."""
    assert log_ratio(math.log(0.7), math.log(0.4)) == pytest.approx(math.log(0.7 / 0.4))
    assert log_ratio(math.log(0.1), math.log(0.4)) < 0


def test_a_likelihood_is_of_the_law_that_is_sampled_from_unless_told() -> None:
    """With temperature and top_p applied; ``model`` leaves them out, as the paper authors' code does."""
    assert SamplingParams().likelihood is Likelihood.SAMPLING
    assert list(Likelihood) == ["sampling", "model"]
