"""An answer is written step by step: candidates are proposed, one is kept as a step, steps make a trajectory."""

import pytest

from gsi.algorithm.candidates import Candidate, FinishReason, Source
from gsi.algorithm.methods.gsi import run_step
from gsi.algorithm.params import Params, SamplingParams
from tests.fundamentals.tiny import DRAFT, START, TINY


def test_a_candidate_is_token_ids_with_their_text_and_likelihood() -> None:
    """The token ids are the step; the text is only what they decode to."""
    proposed = Candidate(0, (50, 43, 51), "2+3", log_likelihood=-1.2, finish_reason=FinishReason.LENGTH)
    assert (proposed.token_ids, proposed.text) == ((50, 43, 51), "2+3")


def test_a_candidate_without_tokens_is_no_step() -> None:
    """An answer must get longer with every step."""
    with pytest.raises(ValueError, match="no tokens"):
        Candidate(0, (), "", -1.2, FinishReason.EOS)


async def test_a_model_proposes_many_candidates_numbered_from_0() -> None:
    """The index names a candidate while its scores come in, in any order."""
    batches = [batch async for batch in DRAFT.propose(START.token_ids, 4, SamplingParams(), seed=1)]
    assert [c.index for batch in batches for c in batch] == [0, 1, 2, 3]


async def test_one_candidate_is_kept_and_becomes_the_step() -> None:
    """The others are discarded."""
    new = await run_step(START, Params(n=4), TINY, seed=1)
    drafted = new.proposals[0]
    assert (drafted.source, len(drafted.candidates)) == (Source.DRAFT, 4)
    assert new.step.text in [candidate.text for candidate in drafted.candidates]


async def test_the_steps_so_far_are_what_the_models_read_next() -> None:
    """A trajectory is the prompt and the steps kept; adding one makes a new trajectory."""
    step = (await run_step(START, Params(n=4), TINY, seed=1)).step
    longer = START.extend(step)
    assert longer.text == step.text
    assert longer.token_ids == START.prompt.token_ids + step.token_ids
    assert START.text == ""
