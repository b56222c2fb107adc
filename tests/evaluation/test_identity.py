"""What an evaluation measured is known, and nothing else gets into its folder."""

from pathlib import Path
from typing import Any

import pytest

from gsi.errors import InvalidRequestError
from gsi.evaluation.folder import Folder
from gsi.evaluation.identity import describe_identity, digest_problems, identify, refuse_other_models, refuse_stranger
from gsi.evaluation.plan import Plan
from gsi.evaluation.problems import load_problems
from gsi.evaluation.records import Identity
from gsi.evaluation.report import build_report_json, write_report
from gsi.evaluation.session import OWN_SYSTEM, System
from gsi.jobs.job import parse_payload
from gsi.jobs.reader import JobRecord
from gsi.jobs.state import JobState
from tests.evaluation.made_records import MODELS, evaluation, job

PLAN = Plan(dataset="arithmetic", methods=("gsi",), ns=(4,), seeds=1, limit=2)
TARGET = MODELS["target"]
IDENTITY = Identity(
    system="redis://models:6379/0, queue default",
    models=MODELS | {"target": TARGET.model_copy(update={"checkpoint_fingerprint": "ab" * 32, "dtype": "bfloat16"})},
    dataset="cd" * 32,
    template="Reason.",
    code="1.0+aa",
    coordinator_code="1.0+aa",
)


def changed(**values: Any) -> Identity:
    return IDENTITY.model_copy(update=values)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (
            {"models": {**IDENTITY.models, "target": TARGET}},
            "target.checkpoint_fingerprint: abababababab there, unknown",
        ),
        ({"dataset": "ef" * 32}, "dataset: cdcdcdcdcdcd there, efefefefefef here"),
        ({"template": "Guess."}, "template: Reason. there, Guess. here"),
        ({"code": "1.1+bb"}, r"code: 1\.0\+aa there, 1\.1\+bb here"),
        ({"router": "12" * 32}, "router: unknown there, 121212121212 here"),
        ({"coordinator_code": ""}, r"coordinator_code: 1\.0\+aa there, unknown here"),
        ({"system": "redis://other:6379/0, queue default"}, "system: redis://models:6379/0, queue default there"),
    ],
)
def test_an_evaluation_goes_on_with_the_same_or_not_at_all(tmp_path: Path, other: dict[str, Any], named: str) -> None:
    """The refusal names the difference, and the folder stays as it was."""
    folder = Folder(tmp_path)
    run = folder.identify(folder.begin(PLAN, evaluation()), IDENTITY)
    folder.append(job())
    assert folder.identify(run, IDENTITY) == run == folder.read_run()
    with pytest.raises(InvalidRequestError, match=named):
        folder.identify(run, changed(**other))
    assert folder.read_run() == run


def test_a_folder_without_records_takes_the_identity_of_its_first_jobs(tmp_path: Path) -> None:
    """So a run that ended before its first job is no obstacle."""
    folder = Folder(tmp_path)
    run = folder.identify(folder.begin(PLAN, evaluation()), IDENTITY)
    other = changed(code="2.0+cc")
    assert folder.identify(run, other).evaluation.identity == folder.read_run().evaluation.identity == other


def test_records_of_unknown_models_are_not_gone_on_with(tmp_path: Path) -> None:
    """An older release did not keep what it measured."""
    folder = Folder(tmp_path)
    run = folder.begin(PLAN, evaluation())
    folder.append(job())
    with pytest.raises(InvalidRequestError, match="has records of unknown models"):
        folder.identify(run, IDENTITY)


def test_a_job_of_other_models_is_not_recorded() -> None:
    """A service may come back with another model in the middle of an evaluation."""
    ours = job(models=IDENTITY.models, code=IDENTITY.coordinator_code)
    refuse_stranger(IDENTITY, ours)
    refuse_stranger(IDENTITY, job(state=JobState.FAILED, models={}))  # nobody answered it
    with pytest.raises(InvalidRequestError, match=r"changed during the evaluation .*target.dtype: bfloat16 there"):
        refuse_stranger(IDENTITY, job(models=MODELS, code=IDENTITY.coordinator_code))
    with pytest.raises(InvalidRequestError, match="coordinator_code"):
        refuse_stranger(IDENTITY, ours.model_copy(update={"code": "1.1+bb"}))


def test_a_job_of_another_router_is_not_recorded() -> None:
    """A coordinator may come back with another file: one row would be of two routers."""
    identity = changed(router="12" * 32)
    ours = job(label="arbitrage", models=IDENTITY.models, code=IDENTITY.coordinator_code, router="12" * 32)
    refuse_stranger(identity, ours)
    refuse_stranger(identity, ours.model_copy(update={"router": None, "label": "gsi"}))  # whose method asks none
    with pytest.raises(InvalidRequestError, match="router: 121212121212 there, 343434343434 here"):
        refuse_stranger(identity, ours.model_copy(update={"router": "34" * 32}))


class Client:
    """A system that answers probes with what its coordinator would say; it has a router or not."""

    def __init__(self, router: str | None) -> None:
        self.router = router
        self.methods: list[str] = []
        self.forgotten: list[str] = []

    async def submit(self, payload: dict[str, Any]) -> str:
        self.methods.append(parse_payload(payload).params.method)
        return str(payload["id"])

    async def wait(self, job_id: str) -> JobRecord:
        is_asked = self.methods[-1] == "arbitrage"
        if is_asked and self.router is None:
            return JobRecord(job_id, JobState.FAILED, {"state": "FAILED", "error": "there is none"})
        fields = {"state": "SUCCEEDED", "models": "{}", "code": "1.0+aa", "rendered_prompt": "Ask"}
        return JobRecord(
            job_id, JobState.SUCCEEDED, {**fields, **({"router": self.router} if is_asked and self.router else {})}
        )

    async def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)


@pytest.mark.parametrize(("router", "asks", "known"), [("ab", True, "ab"), (None, True, ""), ("ab", False, "")])
async def test_the_router_is_asked_for_where_a_row_needs_it(router: str | None, asks: bool, known: str) -> None:
    """By a job of one token, as the models are. A system without a router is measured all the same."""
    client: Any = Client(router)
    identity, rendered = await identify(client, "here", load_problems("arithmetic", 2), asks_router=asks)
    assert (identity.router, identity.coordinator_code, rendered) == (known, "1.0+aa", "Ask")
    assert client.methods == (["draft", "arbitrage"] if asks else ["draft"])
    assert len(client.forgotten) == len(client.methods)


def test_calibration_runs_on_the_models_of_its_records() -> None:
    """The address may differ, the models may not."""
    refuse_other_models(IDENTITY, changed(system="elsewhere"))
    refuse_other_models(None, IDENTITY)
    with pytest.raises(InvalidRequestError, match="models: others than those of the records"):
        refuse_other_models(IDENTITY, changed(models=MODELS))


def test_one_line_and_the_report_say_what_was_measured() -> None:
    """Address, models with files and dtype, data set, prompts and code."""
    identity = changed(router="12" * 32)
    line = describe_identity(identity, "arithmetic")
    assert "\n" not in line
    assert "router" not in describe_identity(IDENTITY, "arithmetic")
    jobs = [job(models=IDENTITY.models), job(label="arbitrage", models=IDENTITY.models, router=identity.router)]
    report = write_report(evaluation(identity=identity), jobs, [])
    assert build_report_json(evaluation(identity=identity), jobs, [])["routers"] == [identity.router]
    for text in (line, report):
        for part in ("redis://models:6379/0", "tiny-target", "bfloat16", "abababab", "cdcdcdcd", "Reason.", "1.0+aa"):
            assert part in text
        assert "router" in text
        assert "1212121212" in text


def test_the_digest_of_problems_covers_prompts_answers_and_system_messages(tmp_path: Path) -> None:
    """Whatever a job asks or a grader expects."""
    lines = [
        '{"problem": "2+3", "answer": "5"}',
        '{"problem": "2+4", "answer": "5"}',
        '{"problem": "2+3", "answer": "6"}',
    ]
    found = set()
    for line in lines:
        (tmp_path / "set.jsonl").write_text(line)
        found.add(digest_problems(load_problems(str(tmp_path / "set.jsonl"))))
    (tmp_path / "set.jsonl").write_text('{"prompt": "2+3", "expected": "5"}')  # without a system message
    found.add(digest_problems(load_problems(str(tmp_path / "set.jsonl"))))
    assert len(found) == 4


def test_a_running_system_has_its_own_models() -> None:
    """So models that are asked for beside it are refused, unless another system is asked for as well."""
    url = "redis://user:secret@models:6379/0"
    for options in ({"models": Path("mine")}, {"engine": "vllm"}):
        with pytest.raises(
            InvalidRequestError, match=r"is not allowed with the running system .*--own-system"
        ) as refused:
            System(url, **options).check()
        assert "secret" not in str(refused.value)
        System(url, is_own=True, **options).check()
    assert System(url).address == "redis://models:6379/0, queue default"
    assert System(url, is_own=True).address == OWN_SYSTEM
