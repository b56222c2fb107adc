"""What an evaluation runs, and the folder that it goes on from."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gsi.errors import InvalidRequestError
from gsi.evaluation.folder import Folder
from gsi.evaluation.plan import Plan, list_tasks, plan_rows
from gsi.evaluation.problems import load_problems
from gsi.evaluation.records import Evaluation
from tests.evaluation.made_records import job

PLAN = Plan(dataset="arithmetic", methods=("gsi", "draft", "rsd:n=2"), ns=(1, 4), seeds=2, limit=3)
EVALUATION = Evaluation(
    dataset="arithmetic", problems=3, labels=PLAN.methods, ns=PLAN.ns, seeds=2, concurrency=4, machine="-", date="-"
)


def test_a_model_alone_runs_once_whatever_n_is() -> None:
    """And a method that says its own n runs at that."""
    assert [(row.label, row.n) for row in plan_rows(PLAN)] == [("gsi", 1), ("gsi", 4), ("draft", 1), ("rsd:n=2", 2)]


def test_rows_take_turns_seed_by_seed() -> None:
    """A busy moment of the machine falls on all of them alike."""
    groups = list(list_tasks(PLAN, load_problems("arithmetic", 3)))
    assert [(group[0].row.label, group[0].row.n, group[0].seed) for group in groups[:5]] == [
        ("gsi", 1, 0),
        ("gsi", 4, 0),
        ("draft", 1, 0),
        ("rsd:n=2", 2, 0),
        ("gsi", 1, 1),
    ]
    assert {len(group) for group in groups} == {3}


def test_a_problem_has_the_same_seed_in_every_method_and_another_in_every_run() -> None:
    """Methods are compared on the same luck; runs of a problem are independent."""
    every = [task for group in list_tasks(PLAN, load_problems("arithmetic", 3)) for task in group]
    seeds = {(task.problem.id, task.seed): task.payload("x").params.seed for task in every}
    assert all(task.payload("x").params.seed == seeds[task.problem.id, task.seed] for task in every)
    assert len(set(seeds.values())) == 6


def test_a_task_has_one_job_id_in_one_run_and_another_elsewhere() -> None:
    """Pushing a task again after a crash does not run it twice; another evaluation does not find its result."""
    every = [task for group in list_tasks(PLAN, load_problems("arithmetic", 3)) for task in group]
    ids = [task.payload("run-a").id for task in every]
    assert len(set(ids)) == len(every)
    assert ids == [task.payload("run-a").id for task in every]
    assert not set(ids) & {task.payload("run-b").id for task in every}


def test_a_method_s_own_options_win_over_those_of_all() -> None:
    """``-p beta=5`` is for every method, ``gsi:beta=8`` for one."""
    plan = PLAN.model_copy(update={"methods": ("gsi:beta=8", "gsi"), "params": {"beta": 5.0, "n": 2}})
    assert [(row.label, row.n, row.params["beta"]) for row in plan_rows(plan)] == [
        ("gsi:beta=8", 2, 8),
        ("gsi", 2, 5.0),
    ]


def test_equal_plans_share_a_folder_and_others_do_not() -> None:
    """So the same command goes on where it was, and another one starts its own."""
    assert PLAN.name == PLAN.model_copy().name
    assert PLAN.name != PLAN.model_copy(update={"seeds": 3}).name
    assert Plan(dataset="data/my set.jsonl", methods=("gsi",), ns=(1,), seeds=1).name.startswith("my-set-")


def test_a_folder_goes_on_with_the_run_that_it_holds(tmp_path: Path) -> None:
    """The id stays, and so do the ids of its jobs."""
    folder = Folder(tmp_path / "out")
    assert folder.begin(PLAN, EVALUATION) == folder.begin(PLAN, EVALUATION)
    with pytest.raises(InvalidRequestError, match="holds another evaluation"):
        folder.begin(PLAN.model_copy(update={"limit": 4}), EVALUATION)


@settings(max_examples=20)
@given(cut=st.integers(1, 200))
def test_a_line_that_a_crash_has_cut_is_dropped(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever it was cut; what was written before stays, and writing goes on behind it."""
    folder = Folder(tmp_path_factory.mktemp("cut"))
    first, second = job(problem="a"), job(problem="b")
    folder.append(first)
    whole = folder.records_path.read_bytes()
    folder.append(second)
    end = max(len(whole), len(folder.records_path.read_bytes()) - cut)
    with folder.records_path.open("r+b") as file:
        file.truncate(end)
    assert folder.read_records() == [first]
    folder.append(second)
    assert folder.read_records() == [first, second]


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    """A file that somebody has edited is not silently read in part."""
    folder = Folder(tmp_path)
    folder.records_path.write_text("{}\n")
    with pytest.raises(InvalidRequestError, match="line 1: not a record"):
        folder.read_records()
    with pytest.raises(InvalidRequestError, match=r"run\.json: cannot be read"):
        folder.read_run()


def test_another_offset_makes_fresh_runs() -> None:
    """A replicate shares no random number with the runs before; its records say which seeds it had."""
    problems = load_problems("arithmetic", 1)
    plan = Plan(dataset="arithmetic", methods=("gsi",), ns=(4,), seeds=2)
    first = [task for group in list_tasks(plan, problems) for task in group]
    again = [task for group in list_tasks(plan.model_copy(update={"seed_offset": 2}), problems) for task in group]
    assert [task.seed for task in (*first, *again)] == [0, 1, 2, 3]
    assert len({task.payload("run").params.seed for task in (*first, *again)}) == 4
    with pytest.raises(InvalidRequestError, match="seed_offset: -1 is not allowed; allowed: 0 to"):
        plan_rows(plan.model_copy(update={"seed_offset": -1}))
