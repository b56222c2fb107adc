"""examples/README.md is the door to the programs beside it."""

from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
TESTS = Path(__file__).parent / "test_examples.py"
PARTS = {"redis.mjs"}  # files that other examples import


def test_every_example_has_a_test_and_a_line_in_the_door() -> None:
    """A program without a test would rot, and nobody would find a program that examples/README.md leaves out."""
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in {".py", ".mjs"}} - PARTS
    door, tests = (EXAMPLES / "README.md").read_text(), TESTS.read_text()
    assert len(programs) == 6
    assert {name for name in programs if f"({name})" not in door} == set()
    assert {name for name in programs if f'"{name}"' not in tests} == set()
