"""The methods by name: those that keep one trajectory (``METHODS``) and those that keep several (``SEARCHES``).

A method is a short module made of the parts in ``gsi/algorithm/parts.py`` and ``rounds.py``. What a job may set for
each, and how to add one: ``docs/methods.md``.
"""

from collections.abc import Mapping

from gsi.algorithm.methods import best_of_n, gsi, rsd, single_model
from gsi.algorithm.methods.beam_search import BEAM_SEARCH
from gsi.algorithm.methods.responses import BEST_OF_RESPONSES, MAJORITY_VOTE
from gsi.algorithm.methods.rounds import Search
from gsi.algorithm.params import Method, Params, Scope
from gsi.algorithm.parts import MakeStep

METHODS: Mapping[Method, MakeStep] = {
    Method.GSI: gsi.run_step,
    Method.GSI_NO_REJECTION: gsi.run_step_without_rejection,
    Method.RSD: rsd.run_step,
    Method.SOFT_BEST_OF_N: best_of_n.soft,
    Method.BEST_OF_N: best_of_n.hard,
    Method.DRAFT: single_model.draft,
    Method.TARGET: single_model.target,
    Method.SPECULATIVE_DECODING: single_model.target,
}

SEARCHES: Mapping[Method, Search] = {
    Method.BEST_OF_N: BEST_OF_RESPONSES,
    Method.MAJORITY_VOTE: MAJORITY_VOTE,
    Method.BEAM_SEARCH: BEAM_SEARCH,
}


def search_of(params: Params) -> Search | None:
    """Return how a job searches, or None if its method keeps one trajectory."""
    if params.method is Method.BEST_OF_N and params.scope is Scope.STEPS:
        return None
    return SEARCHES.get(params.method)
