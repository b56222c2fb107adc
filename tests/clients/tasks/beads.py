"""A task of Inspect's own kind: problems.jsonl lies beside it when it runs."""

from inspect_ai import Task, task
from inspect_ai.dataset import FieldSpec, json_dataset
from inspect_ai.scorer import pattern
from inspect_ai.solver import generate


@task  # type: ignore[untyped-decorator]  # Inspect is not where types are checked
def beads() -> Task:
    return Task(
        dataset=json_dataset("problems.jsonl", FieldSpec(input="prompt", target="expected")),
        solver=generate(),
        scorer=pattern(r"\\boxed\{(\d+)\}"),
    )
