"""The PRM's start: tokens are graded as steps are, and the planted layers find what a solver did not expect."""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2ForCausalLM

from training.codes import Codes
from training.comparison import FRESH_LAYERS, compute_width, plant_comparison
from training.grading import grade_tokens
from training.language_model import make_qwen2_config
from training.mistakes import Place, bad_shape, right_step, wrong_number
from training.recipe import Shape
from training.task import draw_problem, grade_step
from training.tokenizer import STEP_REWARD, VOCABULARY_SIZE, encode

STEP = "On Tuesday she buys 3 packs of 4 shells, that is 3 * 4 = 12 shells, so Mia now has 7 + 12 = 19 shells."


@given(st.integers(0, 10**6), st.sampled_from([right_step, wrong_number, bad_shape]))
@settings(deadline=None)
def test_a_step_is_right_as_far_as_its_first_wrong_token(seed: int, write: object) -> None:
    """Grades fall once and never rise again, and the last one is the step's own."""
    assert callable(write)
    rng = random.Random(seed)
    problem = draw_problem(rng, "train")
    place = Place(problem, 1, problem.start)
    text = write(place, rng)
    (step,) = encode([text + STEP_REWARD])
    grades = grade_tokens(problem, 1, problem.start, tuple(step))
    assert len(grades) == len(step)
    assert grades == sorted(grades, reverse=True)
    assert grades[-1] == grade_step(problem, 1, problem.start, text)


def test_a_planted_prm_knows_what_the_solver_expects() -> None:
    """The wider backbone writes what the narrow one does, so nothing that the solver has learned is lost."""
    torch.manual_seed(0)
    shape = Shape(hidden=64, layers=2, intermediate=160)
    solver = Qwen2ForCausalLM(make_qwen2_config(shape)).eval()
    codes = Codes(torch.randn(VOCABULARY_SIZE, shape.hidden) * 0.1, torch.zeros(VOCABULARY_SIZE))
    tokens = torch.tensor(encode([STEP]))
    wide = Shape(compute_width(shape.hidden), shape.layers + FRESH_LAYERS, shape.intermediate)
    prm = plant_comparison(solver, wide, codes, tokens, torch.ones_like(tokens, dtype=torch.bool)).eval()
    with torch.inference_mode():
        expected = solver.model(tokens).last_hidden_state
        stream = prm.model(tokens, output_hidden_states=True).hidden_states[shape.layers]
        known = prm.model.layers[shape.layers].input_layernorm(stream)[..., : shape.hidden]
    torch.testing.assert_close(known, expected, atol=0.05, rtol=0.05)
