"""What the GSI paper measured, and what the planner says of the same system."""

from dataclasses import dataclass

from gsi.planning.architecture import Role, find_architecture
from gsi.planning.gpus import GPUS
from gsi.planning.phases import Model
from gsi.planning.steps import SBON_DRAFT, SBON_TARGET, Setup, Workload, plan_steps
from gsi.planning.systems import ANSWER_TOKENS, PAPER, System

# GSI paper, section 4, *Models*.
PAPER_MODELS: dict[Role, str] = {
    "draft": "Qwen2.5-Math-1.5B-Instruct",
    "target": "Qwen2.5-Math-7B-Instruct",
    "prm": "Qwen2.5-Math-PRM-7B",
}
# Not fitted. The problems of MATH500, OlympiadBench and Minerva Math have 196, 313 and 421 characters on average, about
# a token for each three; the system prompt and the chat template add thirty.
PROMPT_TOKENS = 130.0
MAX_STEP_TOKENS = 512  # max_new_tokens in the authors' code, and our default


@dataclass(frozen=True, slots=True)
class Published:
    """A row of the GSI paper's Table 2: seconds a step, steps an answer, share of steps accepted."""

    method: str
    n: int
    seconds: float
    num_steps: float
    acceptance: float = 1.0


# GSI paper, section 4.1, Table 2: "Avg. inference time (in seconds) per reasoning step, avg. number of reasoning steps
# per sample, and avg. percentage of samples accepted (averaged across all datasets)". The RSD paper prints no seconds.
TABLE_2 = (
    Published("gsi", 16, 0.87, 13.9, 0.91),
    Published("rsd", 16, 0.74, 11.6, 0.97),
    Published(SBON_DRAFT, 16, 0.79, 11.0),
    Published(SBON_TARGET, 16, 1.14, 11.8),
    Published("gsi", 64, 2.06, 15.3, 0.93),
    Published("rsd", 64, 1.88, 12.7, 0.98),
    Published(SBON_DRAFT, 64, 1.99, 10.9),
    Published(SBON_TARGET, 64, 2.76, 11.7),
)


def predict(row: Published, system: System = PAPER, answer_tokens: float = ANSWER_TOKENS) -> float:
    """Return the seconds a step that the planner says for a row of Table 2.

    Answers are taken to be equally long with every method, so that a method with more steps has shorter ones.
    """
    models: dict[Role, Model] = {
        role: Model(
            role,
            find_architecture(role, name),
            system.make_processor(role, GPUS["h100"], 1),
        )
        for role, name in PAPER_MODELS.items()
    }
    workload = Workload(
        n=row.n,
        prompt_tokens=PROMPT_TOKENS,
        step_tokens=answer_tokens / row.num_steps,
        num_steps=row.num_steps,
        max_step_tokens=MAX_STEP_TOKENS,
        acceptance={"gsi": row.acceptance, "rsd": row.acceptance},
    )
    return plan_steps(Setup(models, system, workload))[row.method].seconds


def relative_error(row: Published) -> float:
    """Return how far the prediction is from the figure, as a share of the figure."""
    return predict(row) / row.seconds - 1
