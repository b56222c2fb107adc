"""Problems from the hub, from files and from the shipped family."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.evaluation.problems import (
    HUB_DATASETS,
    MMLU,
    STEM_SUBJECTS,
    STEP_BY_STEP,
    WITHOUT_UNITS,
    HubDataset,
    Problem,
    load_problems,
)
from gsi.grading.graders import AnswerKind, grade
from gsi.local.demo import held_out_problems

DATA = Path(__file__).parent / "data"
LOCAL_SHAPES = ["gsm8k", "math500", "minerva_math", "mmlu_stem", "olympiadbench"]


def written(folder: Path, *rows: object, name: str = "problems.jsonl") -> str:
    """Write rows as JSONL, text as it is, and return the path."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("shape", "ids", "expected"),
    [
        ("gsm8k", ["0", "1"], ["36", "3,000"]),
        ("math500", ["test/prealgebra/1.json", "test/prealgebra/2.json"], [r"\frac{1}{3}", "2"]),
        ("minerva_math", ["0", "1"], ["2.16e5", r"\frac{1}{2 \sqrt{a}}"]),
        ("mmlu_stem", ["0", "1"], ["B", "C"]),
        ("olympiadbench", ["11", "12"], ["3,-3", r"a^{2}, a \cdot a"]),
    ],
)
def test_a_file_of_a_known_shape_needs_no_mapping(shape: str, ids: list[str], expected: list[str]) -> None:
    """Its ids, where it has any, and its answers are found."""
    loaded = load_problems(str(DATA / f"{shape}.jsonl"))
    assert [problem.id for problem in loaded] == ids
    assert [problem.expected for problem in loaded] == expected


@pytest.mark.parametrize("shape", LOCAL_SHAPES)
def test_an_expected_answer_is_right(shape: str) -> None:
    """In a box, both graders accept it."""
    for problem in load_problems(str(DATA / f"{shape}.jsonl")):
        given = grade(rf"\boxed{{{problem.expected}}}", None, problem.expected, problem.kind)
        assert given.is_correct
        assert given.is_correct_strict


def test_a_problem_is_asked_as_in_the_papers() -> None:
    """The problem is the user's message, the system message asks for steps and a box; the stratum is kept."""
    assert load_problems(str(DATA / "math500.jsonl"), limit=1) == [
        Problem(
            id="test/prealgebra/1.json",
            prompt=r"What is half of $\frac{2}{3}$?",
            expected=r"\frac{1}{3}",
            system=STEP_BY_STEP,
            kind=AnswerKind.MATH,
            level="1",
            subject="Prealgebra",
        )
    ]


def test_minerva_math_asks_for_no_units() -> None:
    """As the code of the GSI paper does."""
    assert load_problems(str(DATA / "minerva_math.jsonl"))[0].system == WITHOUT_UNITS
    assert HUB_DATASETS["minerva_math"].shape.system == WITHOUT_UNITS


def test_choices_follow_the_question() -> None:
    """With letters, of which one is the answer."""
    problem = load_problems(str(DATA / "mmlu_stem.jsonl"))[1]
    assert problem.prompt == "Which gas do plants take up?\nAnswer Choices: (A) Oxygen (B) Argon (C) Carbon dioxide"
    assert problem.kind is AnswerKind.CHOICE


def test_a_context_goes_before_the_question() -> None:
    """Where there is one."""
    without, with_context = load_problems(str(DATA / "olympiadbench.jsonl"))
    assert without.prompt == "Solve $x^2 = 9$."
    assert with_context.prompt == "A square has side $a$.\nWhat is its area?"


def test_prompt_and_expected_are_taken_as_they_are(tmp_path: Path) -> None:
    """Such a file brings its own instructions: no system message."""
    [problem] = load_problems(written(tmp_path, {"prompt": "Say 5.", "expected": 5}))
    assert problem == Problem("0", "Say 5.", "5", None, AnswerKind.MATH)


def test_the_arithmetic_set_is_what_the_demo_does_not_show() -> None:
    """476 shipped problems, asked as they are and graded to the letter."""
    loaded = load_problems("arithmetic")
    shown = {problem["prompt"] for problem in held_out_problems(24)}
    assert len(loaded) == 476
    assert not shown & {problem.prompt for problem in loaded}
    assert {(problem.system, problem.kind) for problem in loaded} == {(None, AnswerKind.EXACT)}
    assert load_problems("arithmetic", limit=3) == loaded[:3]


def test_a_mapping_names_the_fields_of_a_file(tmp_path: Path) -> None:
    """Also where the file would be recognised as something else."""
    row = {"question": "No.", "answer": "0", "task": "Which?", "key": "b", "options": ["1", "2"], "number": "q7"}
    mapping = {"problem": "task", "answer": "key", "choices": "options", "id": "number"}
    [problem] = load_problems(written(tmp_path, row), mapping=mapping)
    assert problem == Problem("q7", "Which?\nAnswer Choices: (A) 1 (B) 2", "B", STEP_BY_STEP, AnswerKind.CHOICE)


def test_a_line_ends_with_a_newline_alone(tmp_path: Path) -> None:
    """Other separators are part of a text; empty lines are nothing."""
    path = written(tmp_path, {"prompt": "one\u2028two\x85three", "expected": "3"}, "", {"prompt": "4", "expected": "4"})
    assert [problem.prompt for problem in load_problems(path)] == ["one\u2028two\x85three", "4"]


GOOD = {"question": "How many?", "answer": "#### 3"}


@pytest.mark.parametrize(
    ("rows", "mapping", "sentence"),
    [
        ([GOOD, {"question": "How many?"}], None, "line 2: field answer: missing; allowed: a text, a number"),
        ([GOOD, {"question": "How many?", "reply": "3"}], None, "the line has question, reply"),
        ([GOOD, {"question": 3, "answer": "3"}], None, "line 2: field question: not allowed; allowed: a text"),
        ([GOOD, {"question": "How many?", "answer": " "}], None, "field answer: not allowed; allowed: an answer that"),
        ([GOOD, {"question": "How many?", "answer": []}], None, "field answer: not allowed; allowed: an answer that"),
        ([GOOD, {"question": "How many?", "answer": True}], None, "field answer: not allowed; allowed: a text, a"),
        ([GOOD, "{"], None, "line 2: not JSON"),
        ([GOOD, "[1]"], None, "line 2: not an object"),
        (
            [{"text": "How many?"}],
            None,
            "line 1: has text; allowed: prompt and expected; question and choices and answer;",
        ),
        ([GOOD], {"problem": "task", "answer": "answer"}, "line 1: field task: missing"),
        ([GOOD], {"answer": "answer"}, "field: problem is missing; allowed: problem, answer, choices, context, id"),
        ([GOOD], {"problem": "question", "gold": "answer"}, "field: gold is not known"),
        (
            [{"question": "?", "choices": ["1", "2"], "answer": 2}],
            None,
            "field answer: not allowed; allowed: 0 to 1, or A",
        ),
        (
            [{"question": "?", "choices": "1 2", "answer": 1}],
            None,
            "field choices: not allowed; allowed: a list of 2 to",
        ),
        (
            [{**GOOD, "n": 1}] * 2,
            {"problem": "question", "answer": "answer", "id": "n"},
            "line 2: field n: 1 is another",
        ),
        ([""], None, "has no problems"),
    ],
)
def test_what_cannot_be_read_is_refused_by_line_and_field(
    tmp_path: Path, rows: list[object], mapping: dict[str, str] | None, sentence: str
) -> None:
    """The error says what is allowed, and what there is instead."""
    with pytest.raises(InvalidRequestError) as refusal:
        load_problems(written(tmp_path, *rows), mapping=mapping)
    assert sentence in str(refusal.value)
    assert "problems.jsonl" in str(refusal.value) or "field:" in str(refusal.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """It may be an archive."""
    (tmp_path / "problems.jsonl.gz").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(InvalidRequestError, match="not a text in UTF-8"):
        load_problems(str(tmp_path / "problems.jsonl.gz"))


def test_an_unknown_data_set_is_refused_with_those_that_are_known() -> None:
    """A path that does not exist is one, too."""
    with pytest.raises(
        InvalidRequestError, match=r"dataset: math5000 is not known; allowed: arithmetic, math500, .*JSONL"
    ):
        load_problems("math5000")


def test_a_mapping_is_for_files() -> None:
    """The fields of a named data set are known."""
    with pytest.raises(InvalidRequestError, match="field: math500 is no file"):
        load_problems("math500", mapping={"problem": "problem", "answer": "answer"})


def test_a_limit_is_at_least_one() -> None:
    """None is all."""
    with pytest.raises(InvalidRequestError, match="limit: 0 is not allowed; allowed: 1 and more"):
        load_problems("arithmetic", limit=0)


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the library reads as it reads a repository of the hub, with one configuration, ``main``."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    configuration = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: rows.jsonl\n---\n"
    (folder / "README.md").write_text(configuration)
    return folder


def test_a_data_set_of_the_hub_is_loaded_by_its_library(hub_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Path, configuration and split are the library's, and rows of other subjects are left out."""
    rows: list[dict[str, Any]] = [
        {"question": "Prime?", "subject": "abstract_algebra", "choices": ["4", "5"], "answer": 1},
        {"question": "Where?", "subject": "world_religions", "choices": ["Here", "There"], "answer": 0},
        {"question": "Star?", "subject": "astronomy", "choices": ["Sun", "Moon"], "answer": 0},
    ]
    written(hub_folder, *rows, name="rows.jsonl")
    hub = HubDataset(str(hub_folder), "main", "test", MMLU, "our own", STEM_SUBJECTS)
    monkeypatch.setitem(HUB_DATASETS, "mmlu_stem", hub)
    assert [(problem.prompt.partition("\n")[0], problem.expected) for problem in load_problems("mmlu_stem")] == [
        ("Prime?", "B"),
        ("Star?", "A"),
    ]


@pytest.mark.parametrize("shape", LOCAL_SHAPES)
def test_each_data_set_of_the_hub_has_the_fields_that_are_read(
    shape: str, hub_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in the hub's shape, which for Minerva Math is not the file's, give the file's problems."""
    local = load_problems(str(DATA / f"{shape}.jsonl"))
    rows = [json.loads(line) for line in (DATA / f"{shape}.jsonl").read_text().splitlines()]
    if shape == "minerva_math":
        rows = [
            {"question": row["problem"], "answer": problem.expected} for row, problem in zip(rows, local, strict=True)
        ]
    if shape == "mmlu_stem":
        rows = [{**row, "subject": row["type"]} for row in rows]
    written(hub_folder, *rows, name="rows.jsonl")
    hub = HUB_DATASETS[shape]
    there = HubDataset(str(hub_folder), "main", "test", hub.shape, hub.source, hub.subjects)
    monkeypatch.setitem(HUB_DATASETS, shape, there)
    without_strata = [replace(problem, level=None, subject=None) for problem in load_problems(shape)]
    assert without_strata == [replace(problem, level=None, subject=None) for problem in local]


@pytest.mark.parametrize(
    "error",
    [ConnectionError("Couldn't reach it"), ValueError("BuilderConfig 'all' not found"), FileNotFoundError("gone")],
)
def test_a_hub_out_of_reach_says_what_to_do(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A file with the same fields does as well."""

    def unreachable(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(MisconfiguredError) as refusal:
        load_problems("olympiadbench")
    assert f"Hothan/OlympiadBench could not be loaded from the Hugging Face hub ({error})" in str(refusal.value)
    assert "give the path of a JSONL file instead, with fields question and final_answer" in str(refusal.value)


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names need it, files do not."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MisconfiguredError, match="pip install 'gsi-serve\\[eval\\]'"):
        load_problems("math500")
    assert load_problems(str(DATA / "gsm8k.jsonl"))


def test_rows_without_an_answer_are_skipped_and_counted(tmp_path: Path) -> None:
    """Whoever asks for them to be refused learns which line it is; a wrong answer is refused in any case."""
    path = tmp_path / "set.jsonl"
    answers = ["5", None, "", [], [" "], 7]
    path.write_text("".join(json.dumps({"problem": "2+3", "answer": answer}) + "\n" for answer in answers))
    skipped: list[str] = []
    problems = load_problems(str(path), on_skip=skipped.append)
    assert [(problem.id, problem.expected) for problem in problems] == [("0", "5"), ("5", "7")]
    assert skipped == [f"{path}, line {number}" for number in (2, 3, 4, 5)]
    assert len(load_problems(str(path), 2, on_skip=skipped.append)) == 2
    with pytest.raises(InvalidRequestError, match="line 2: field answer: missing"):
        load_problems(str(path))
    path.write_text('{"problem": "2+3", "answer": {}}\n')
    with pytest.raises(InvalidRequestError, match="field answer: not allowed"):
        load_problems(str(path), on_skip=skipped.append)


def test_the_system_message_can_be_chosen_or_left_out(tmp_path: Path) -> None:
    """Models that were trained without one answer worse with one."""
    path = tmp_path / "set.jsonl"
    path.write_text('{"problem": "2+3", "answer": "5"}\n')
    found = [load_problems(str(path), system=system)[0].system for system in (None, "Be brief.", "")]
    assert found == [STEP_BY_STEP, "Be brief.", None]
