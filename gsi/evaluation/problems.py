r"""The problems of an evaluation: the papers' data sets by name, the shipped word problems, or a JSONL file.

Every data set has a shape: which field is the problem and which the answer. All data sets are then read alike.
Prompts are those of the papers' evaluations: github.com/QwenLM/Qwen2.5-Math (evaluation, prompt type qwen25-math-cot),
which RSD uses too, zero-shot here for choices as well; and github.com/j-geuter/GSI (main.py) for Minerva Math.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.grading.graders import AnswerKind
from gsi.grading.notation import find_last_boxed
from gsi.local.demo import held_out_problems
from gsi.runtime.installation import how_to_install
from gsi.suggestions import suggest

DEMO_PROBLEMS = 24  # of the shipped problems: the demo shows them, so they are not evaluated
ARITHMETIC = "arithmetic"

STEP_BY_STEP = r"Please reason step by step, and put your final answer within \boxed{}."
WITHOUT_UNITS = (
    STEP_BY_STEP
    + r" Do not include units in your final answer. For example, if the answer is `5 m/s`, write `\boxed{5}`."
)

# The subjects that the evaluation of Qwen2.5-Math calls MMLU STEM: 3,018 questions.
STEM_SUBJECTS = frozenset(
    {
        "abstract_algebra",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem as a job asks it. ``expected`` is LaTeX without dollar signs, or a letter for a choice."""

    id: str  # unique in its data set
    prompt: str
    expected: str
    system: str | None
    kind: AnswerKind
    level: str | None = None  # as the data set names it; MATH has both
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    r"""The names of the fields in which a data set keeps a problem.

    The answer is a text, a number, or a list of texts and numbers. If a text has ``####`` or a ``\boxed{}``, the answer
    is what follows ``####`` or is in the last ``\boxed{}``. With choices, it is a number from 0 on, or a letter.
    """

    problem: str
    answer: str
    choices: str | None = None
    context: str | None = None  # is put before the problem; may be null
    id: str | None = None  # None: a problem's id is its number, from 0 on
    system: str | None = STEP_BY_STEP
    kind: AnswerKind = AnswerKind.MATH


PLAIN = Shape("prompt", "expected", system=None)
GSM8K = Shape("question", "answer")
MATH = Shape("problem", "answer", id="unique_id")
OLYMPIAD_BENCH = Shape("question", "final_answer", context="context", id="id")
MINERVA_SOLUTIONS = Shape("problem", "solution", system=WITHOUT_UNITS)
MMLU = Shape("question", "answer", choices="choices", kind=AnswerKind.CHOICE)
KNOWN_SHAPES = (PLAIN, MMLU, OLYMPIAD_BENCH, MATH, GSM8K, MINERVA_SOLUTIONS)  # the first whose fields a line has
MAPPED = ("problem", "answer", "choices", "context", "id")  # the fields of a shape that a file's mapping may name


@dataclass(frozen=True, slots=True)
class HubDataset:
    """A data set on the Hugging Face hub: the arguments of ``datasets.load_dataset``, and the shape of its rows."""

    path: str
    config: str | None
    split: str
    shape: Shape
    source: str
    subjects: frozenset[str] | None = None  # of field ``subject``; None: all rows


HUB_DATASETS = {
    "math500": HubDataset("HuggingFaceH4/MATH-500", None, "test", MATH, "Lightman et al., 2023 (arXiv:2305.20050)"),
    "gsm8k": HubDataset("openai/gsm8k", "main", "test", GSM8K, "Cobbe et al., 2021 (arXiv:2110.14168)"),
    "olympiadbench": HubDataset(
        "Hothan/OlympiadBench",
        "OE_TO_maths_en_COMP",
        "train",
        OLYMPIAD_BENCH,
        "He et al., 2024 (arXiv:2402.14008)",
    ),
    "minerva_math": HubDataset(
        "math-ai/minervamath",
        None,
        "test",
        replace(GSM8K, system=WITHOUT_UNITS),
        "Lewkowycz et al., 2022 (arXiv:2206.14858)",
    ),
    "mmlu_stem": HubDataset(
        "cais/mmlu", "all", "test", MMLU, "Hendrycks et al., 2020 (arXiv:2009.03300)", STEM_SUBJECTS
    ),
}

Fields = Mapping[str, Any]


def load_problems(
    dataset: str,
    limit: int | None = None,
    mapping: Mapping[str, str] | None = None,
    *,
    system: str | None = None,
    on_skip: Callable[[str], None] | None = None,
) -> list[Problem]:
    """Load the first ``limit`` problems (None: all) of a data set by name, or of a JSONL file.

    ``mapping`` names the fields of a file (``{"problem": "question", "answer": "final_answer"}``; also choices,
    context, id); without it, the first line must have the fields of a known shape. ``system`` replaces the data set's
    system message; "": none. ``on_skip`` is told of each row without an answer, which is left out; None: such a row is
    refused. Raises InvalidRequestError that names file, line and field, and MisconfiguredError if the hub cannot be
    reached.
    """
    if limit is not None and limit < 1:
        raise InvalidRequestError(f"limit: {limit} is not allowed; allowed: 1 and more")
    path = Path(dataset)
    if mapping and not path.is_file():
        raise InvalidRequestError(f"field: {dataset} is no file; allowed: field mappings of a JSONL file")
    if path.is_file():
        problems = _read_problems(_read_file(path), None if not mapping else _build_shape(mapping), on_skip)
    elif dataset == ARITHMETIC:
        problems = _read_problems(_read_arithmetic(), replace(PLAIN, kind=AnswerKind.EXACT), on_skip)
    elif dataset in HUB_DATASETS:
        problems = _read_problems(_read_hub(dataset, HUB_DATASETS[dataset]), HUB_DATASETS[dataset].shape, on_skip)
    else:
        names = [ARITHMETIC, *HUB_DATASETS]
        known, meant = ", ".join(names), suggest(dataset, names)
        raise InvalidRequestError(
            f"dataset: {dataset} is not known; allowed: {known}, or the path of a JSONL file{meant}"
        )
    loaded = list(islice(problems, limit))
    if not loaded:
        raise InvalidRequestError(f"dataset: {dataset} has no problems with an answer")
    return loaded if system is None else [replace(problem, system=system or None) for problem in loaded]


def _read_arithmetic() -> Iterator[tuple[str, Fields]]:
    for index, row in enumerate(held_out_problems(sys.maxsize, skip=DEMO_PROBLEMS)):
        yield f"{ARITHMETIC}, problem {index}", row


def _read_file(path: Path) -> Iterator[tuple[str, Fields]]:
    """Yield each line that is not empty, with its place. Only a newline ends a line."""
    with path.open(encoding="utf-8-sig") as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}, line {number}", _parse_object(f"{path}, line {number}", line)
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{path}: not a text in UTF-8; allowed: a JSONL file") from None


def _parse_object(where: str, line: str) -> Fields:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"{where}: not JSON ({error}); allowed: one object a line") from None
    if not isinstance(row, dict):
        raise InvalidRequestError(f'{where}: not an object; allowed: {{"problem": "…", "answer": "…"}}')
    return row


def _read_hub(name: str, hub: HubDataset) -> Iterator[tuple[str, Fields]]:
    """Yield the rows of a data set, from the hub or from the local cache."""
    try:
        import datasets  # an optional part of the installation
    except ImportError:
        raise MisconfiguredError(f"dataset {name}: needs the library datasets: {how_to_install('eval')}") from None
    try:
        rows = datasets.load_dataset(hub.path, hub.config, split=hub.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise MisconfiguredError(
            f"dataset {name}: {hub.path} could not be loaded from the Hugging Face hub ({error}); "
            f"give the path of a JSONL file instead, with fields {_list_fields(hub.shape)}"
        ) from error
    for index, row in enumerate(rows):
        if hub.subjects is None or row.get("subject") in hub.subjects:
            yield f"{name} ({hub.path}), row {index}", row


def _build_shape(mapping: Mapping[str, str]) -> Shape:
    unknown = [name for name in mapping if name not in MAPPED]
    missing = [name for name in ("problem", "answer") if name not in mapping]
    if unknown or missing:
        wrong = f"{unknown[0]} is not known" if unknown else f"{missing[0]} is missing"
        raise InvalidRequestError(
            f"field: {wrong}; allowed: {', '.join(MAPPED)}, of which problem and answer are needed"
        )
    kind = AnswerKind.CHOICE if "choices" in mapping else AnswerKind.MATH
    return Shape(**mapping, kind=kind)


def _recognise_shape(where: str, row: Fields) -> Shape:
    for shape in KNOWN_SHAPES:
        if {shape.problem, shape.answer, shape.choices or shape.answer} <= row.keys():
            return shape
    known = "; ".join(_list_fields(shape) for shape in KNOWN_SHAPES)
    raise InvalidRequestError(
        f"{where}: has {_list_field_names(row)}; allowed: {known}; or name the fields: problem=… answer=…"
    )


def _read_problems(
    rows: Iterable[tuple[str, Fields]], shape: Shape | None, on_skip: Callable[[str], None] | None
) -> Iterator[Problem]:
    """Yield the problems of rows. Without a shape, the first row decides the shape."""
    seen = set()
    for index, (where, row) in enumerate(rows):
        shape = shape or _recognise_shape(where, row)
        if on_skip is not None and _has_no_answer(row, shape):
            on_skip(where)
            continue
        problem = _read_problem(where, row, shape, index)
        if problem.id in seen:
            raise InvalidRequestError(
                f"{where}: field {shape.id}: {problem.id} is another problem's; allowed: one each"
            )
        seen.add(problem.id)
        yield problem


def _has_no_answer(row: Fields, shape: Shape) -> bool:
    """Return whether a row leaves its answer open, as the rows of a hidden test set do."""
    value = row.get(shape.answer)
    parts = value if isinstance(value, list) else [value]
    return all(part is None or (isinstance(part, str) and not part.strip()) for part in parts)


def _read_problem(where: str, row: Fields, shape: Shape, index: int) -> Problem:
    prompt = _read_text(where, row, shape.problem)
    if shape.context is not None and row.get(shape.context) is not None:
        prompt = f"{_read_text(where, row, shape.context)}\n{prompt}"
    if shape.choices is not None:
        choices = _read_choices(where, row, shape.choices)
        lettered = " ".join(f"({letter}) {choice}" for letter, choice in zip(ascii_uppercase, choices, strict=False))
        prompt = f"{prompt}\nAnswer Choices: {lettered}"
        expected = _read_letter(where, row, shape.answer, len(choices))
    else:
        expected = _read_answer(where, row, shape.answer)
    problem_id = index if shape.id is None else row.get(shape.id, index)
    strata = {name: str(row[name]) for name in ("level", "subject") if isinstance(row.get(name), str | int)}
    return Problem(str(problem_id), prompt, expected, shape.system, shape.kind, **strata)


def _read_text(where: str, row: Fields, field: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise _make_error(where, row, field, "a text")
    return value.strip()


def _read_choices(where: str, row: Fields, field: str) -> list[str]:
    value = row.get(field)
    if not isinstance(value, list) or not 2 <= len(value) <= len(ascii_uppercase):
        raise _make_error(where, row, field, "a list of 2 to 26 choices")
    return [str(choice).strip() for choice in value]


def _read_letter(where: str, row: Fields, field: str, num_choices: int) -> str:
    value, letters = row.get(field), ascii_uppercase[:num_choices]
    if isinstance(value, int) and 0 <= value < num_choices:
        return letters[value]
    if isinstance(value, str) and len(value.strip()) == 1 and value.strip().upper() in letters:
        return value.strip().upper()
    raise _make_error(where, row, field, f"0 to {num_choices - 1}, or {letters[0]} to {letters[-1]}")


def _read_answer(where: str, row: Fields, field: str) -> str:
    """Return the expected answer; several answers are joined by commas, as a set is written."""
    value = row.get(field)
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int | float) and not isinstance(part, bool) for part in parts):
        raise _make_error(where, row, field, "a text, a number, or a list of them")
    expected = ", ".join(_extract_final(str(part)) for part in parts)
    if not expected.strip(" ,"):
        raise _make_error(where, row, field, "an answer that is not empty")
    return expected


def _extract_final(answer: str) -> str:
    boxed = find_last_boxed(answer)
    return re.sub(r"\\?\$", "", answer.rpartition("####")[2] if boxed is None else boxed).strip().rstrip(".")


def _make_error(where: str, row: Fields, field: str, allowed: str) -> InvalidRequestError:
    wrong = "not allowed" if row.get(field) is not None else "missing"
    return InvalidRequestError(
        f"{where}: field {field}: {wrong}; allowed: {allowed}; the line has {_list_field_names(row)}"
    )


def _list_fields(shape: Shape) -> str:
    return " and ".join(name for name in (shape.problem, shape.choices, shape.answer) if name)


def _list_field_names(row: Fields) -> str:
    return ", ".join(map(str, row)) or "no fields"
