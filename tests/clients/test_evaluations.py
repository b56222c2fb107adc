"""Programs that evaluate models, each on a small task of its own kind, by the shipped models."""

import json
from pathlib import Path
from typing import Any

import pytest

from gsi.jobs.state import JobState
from gsi.local.demo import held_out_problems
from tests.clients.running import program, run
from tests.gateway.system import Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

TASKS = Path(__file__).parent / "tasks"
PROBLEMS = held_out_problems(4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tasks and their problems."""
    for task in TASKS.iterdir():
        if task.is_file():
            (tmp_path / task.name).write_bytes(task.read_bytes())
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    return tmp_path


async def test_lm_eval_asks_by_local_chat_completions(trained: Gateway, folder: Path) -> None:
    """With temperature 0, a seed, a limit of tokens and four requests at once, as it does by default."""
    model_args = f"model=gsi,base_url={trained.url}/v1/chat/completions,num_concurrent=4,tokenized_requests=False"
    command = [
        program("evaluation", "lm_eval"),
        *("--model", "local-chat-completions", "--model_args", model_args, "--apply_chat_template"),
        *("--tasks", "beads", "--include_path", ".", "--output_path", "out", "--log_samples"),
    ]
    jobs = await _ids_of(trained)
    await run(command, folder, {})
    (results,), (samples,) = (list((folder / "out").rglob(f"{name}*.json*")) for name in ("results", "samples"))
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    texts = {line["doc"]["prompt"]: line["resps"][0][0] for line in lines}
    accuracy = json.loads(results.read_text())["results"]["beads"]["exact_match,boxed"]
    _check_answers(texts, accuracy)
    params = [json.loads((await trained.jobs.result(job)).fields["params"]) for job in await _ids_of(trained) - jobs]
    assert [(each["seed"], each["max_tokens"]) for each in params] == [(1234, 400)] * len(PROBLEMS)


@pytest.mark.parametrize("options", [(), ("-M", "responses_api=true")], ids=["chat", "responses"])
async def test_inspect_asks_by_openai_api(trained: Gateway, folder: Path, options: tuple[str, ...]) -> None:
    """It takes the address and the key of the service from variables of the service's name."""
    command = [
        program("evaluation", "inspect"),
        *("eval", "beads.py", "--model", "openai-api/gsi/gsi", "--temperature", "0", "--max-tokens", "400"),
        *("--log-dir", "logs", "--log-format", "json", "--display", "plain", *options),
    ]
    await run(command, folder, {"GSI_BASE_URL": f"{trained.url}/v1", "GSI_API_KEY": "none"})
    (log,) = (folder / "logs").glob("*.json")
    said: Any = json.loads(log.read_text())
    assert said["status"] == "success"
    texts = {sample["input"]: sample["output"]["completion"] for sample in said["samples"]}
    _check_answers(texts, said["results"]["scores"][0]["metrics"]["accuracy"]["value"])
    usage = said["stats"]["model_usage"]["openai-api/gsi/gsi"]
    assert 0 < usage["output_tokens"] < usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def _check_answers(texts: dict[str, str], accuracy: float) -> None:
    """Check that the program saw the whole answer of each problem, and found most of them right."""
    assert set(texts) == {problem["prompt"] for problem in PROBLEMS}
    is_right = [f"\\boxed{{{problem['expected']}}}" in texts[problem["prompt"]] for problem in PROBLEMS]
    assert accuracy == sum(is_right) / len(PROBLEMS) >= 0.75


async def _ids_of(gateway: Gateway) -> set[str]:
    return {job.id for job in await gateway.jobs.jobs(JobState.SUCCEEDED, limit=100)}
