"""A small setup whose figures can be checked by hand."""

from dataclasses import replace

from gsi.planning.architecture import Role, find_architecture
from gsi.planning.phases import Model, Processor
from gsi.planning.published import PAPER_MODELS
from gsi.planning.steps import Setup, Workload
from gsi.planning.systems import OURS, System

WORK = Workload(16, 130.0, 25.0, 13.0, 512, {"gsi": 0.9, "rsd": 0.97})
FAST = Processor(flops=500e12, bandwidth=2e12, seconds_per_pass=0.002)


def make_setup(system: System = OURS, work: Workload = WORK, processor: Processor = FAST) -> Setup:
    models: dict[Role, Model] = {
        role: Model(role, find_architecture(role, name), processor) for role, name in PAPER_MODELS.items()
    }
    return Setup(models, system, work)


def with_acceptance(setup: Setup, acceptance: float) -> Setup:
    return replace(setup, workload=replace(setup.workload, acceptance={"gsi": acceptance, "rsd": acceptance}))
