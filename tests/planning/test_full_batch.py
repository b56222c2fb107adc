"""Memory, the number of GPUs, and jobs an hour when passes are full."""

from dataclasses import replace

import pytest

from gsi.errors import InvalidRequestError
from gsi.planning.architecture import find_architecture
from gsi.planning.gpus import GPUS, find_gpu
from gsi.planning.report import make_plan
from gsi.planning.systems import OURS, PAPER
from tests.planning.test_steps import ARCHITECTURES
from tests.planning.worlds import WORK


def test_weights_and_the_cache_of_the_jobs_that_fit_are_within_the_memory() -> None:
    """One more job would not fit."""
    for memory in make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK).memory.values():
        assert memory.weights + memory.max_jobs * memory.kv_per_job <= 0.9 * 80e9
        assert memory.weights + (memory.max_jobs + 1) * memory.kv_per_job > 0.9 * 80e9


def test_a_target_that_is_too_large_for_one_gpu_gets_several() -> None:
    """145 GB of weights: four GPUs of 80 GB, of which 72 can be used, or two of 141 GB."""
    large = {**ARCHITECTURES, "target": find_architecture("target", "Qwen2.5-72B")}
    assert make_plan(large, GPUS["h100"], OURS, WORK).memory["target"].num_gpus == 4
    assert make_plan(large, GPUS["h200"], OURS, WORK).memory["target"].num_gpus == 2
    with pytest.raises(
        InvalidRequestError, match=r"--gpu: a10 has 12 GB, too little for --target .*on 8 GPUs; allowed"
    ):
        make_plan(large, replace(GPUS["a10"], memory=12e9), OURS, WORK)


def test_models_that_do_not_fit_one_gpu_are_refused() -> None:
    """36 GB of weights fit 80 GB and not 24."""
    assert make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK, is_shared=True).methods["gsi"].num_gpus == 1
    with pytest.raises(InvalidRequestError, match="--one-gpu: l4 has 24 GB"):
        make_plan(ARCHITECTURES, GPUS["l4"], OURS, WORK, is_shared=True)


@pytest.mark.parametrize("system", ["ours", "paper"])
@pytest.mark.parametrize("is_shared", [False, True], ids=["a GPU each", "one GPU"])
def test_full_passes_answer_more_jobs_than_one_job_at_a_time(system: str, is_shared: bool) -> None:
    """A GPU whose passes are full is used at least as well as by one job alone."""
    made = make_plan(ARCHITECTURES, GPUS["h100"], OURS if system == "ours" else PAPER, WORK, is_shared=is_shared)
    for method in made.methods.values():
        assert method.full_batch.jobs_per_hour > 3600 / method.seconds_per_answer
        assert method.full_batch.busy_seconds[method.full_batch.bottleneck] == max(
            method.full_batch.busy_seconds.values()
        )


def test_no_gpu_is_faster_than_its_peak() -> None:
    """At full batch the FLOPs that are counted take no more than the datasheet's peak in that time."""
    made = make_plan(ARCHITECTURES, GPUS["h100"], OURS, WORK)
    for method in made.methods.values():
        for role, busy in method.full_batch.busy_seconds.items():
            flops = sum(p.share * p.flops for p in method.step.phases if p.role == role) * WORK.num_steps
            assert flops / busy <= 0.61 * GPUS["h100"].flops


def test_a_gpu_that_is_not_in_the_table_is_refused_with_those_that_are() -> None:
    """The error names the option."""
    with pytest.raises(InvalidRequestError, match=r"--gpu: v100 is not allowed; allowed: .*h100"):
        find_gpu("--gpu", "v100")
    assert find_gpu("--gpu", "H100") is GPUS["h100"]
    assert all(gpu.source for gpu in GPUS.values())
