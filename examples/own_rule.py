"""A rule of your own: what a researcher does.

RSD keeps the draft's step with a probability that a weighting computes from the step's reward. `Power` below is a new
weighting, and the program compares two exponents on the shipped models. It loads the models into its own process,
because the algorithm needs three models and nothing else: no Redis, no gRPC, no queue. `docs/methods.md` says how to
add such a rule to the system, so that every job can name it.
"""

import asyncio
from dataclasses import dataclass
from typing import ClassVar

from gsi.algorithm.candidates import Message, Outcome, Prompt, Trajectory
from gsi.algorithm.generate import generate
from gsi.algorithm.params import Params
from gsi.algorithm.ports import Ports
from gsi.algorithm.round import Round
from gsi.engines.base import EngineSettings, LanguageEngine
from gsi.engines.registry import LANGUAGE_ENGINES, REWARD_ENGINES
from gsi.local.demo import held_out_problems
from gsi.runtime.installation import SHIPPED_MODELS


@dataclass(frozen=True, slots=True)
class Power:
    """w = r^exponent, for a reward r that is cut to [0, 1]."""

    exponent: float
    needs_log_ratio: ClassVar[bool] = False

    def weight(self, reward: float, log_ratio: float) -> float:
        """Return the probability that the draft's step is kept."""
        return float(min(1.0, max(0.0, reward)) ** self.exponent)


async def outcomes_under(rule: Power, draft: LanguageEngine, ports: Ports) -> list[Outcome]:
    """Answer four problems under a rule and return the outcome of every step."""
    params, outcomes = Params(method="rsd", n=4, weighting=rule), list[Outcome]()

    async def keep(made: Round) -> None:
        outcomes.append(made.step.outcome)

    for problem in held_out_problems(4):
        messages = (Message("user", problem["prompt"]),)
        start = Trajectory(Prompt(messages, draft.render(messages)))
        await generate(start, params, ports, seed=1, keep=keep, max_length=draft.info.max_length)
    return outcomes


async def main() -> None:
    """Compare two rules by the share of steps that the draft wrote."""
    settings = [EngineSettings(str(SHIPPED_MODELS / role)) for role in ("draft", "target", "prm")]
    draft, target = [await LANGUAGE_ENGINES.load("transformers", each) for each in settings[:2]]
    ports = Ports(draft, target, await REWARD_ENGINES.load("transformers", settings[2]))
    for rule in (Power(1.0), Power(8.0)):
        outcomes = await outcomes_under(rule, draft, ports)
        print(f"{rule}: {outcomes.count(Outcome.ACCEPTED)} of {len(outcomes)} steps are the draft's")


if __name__ == "__main__":
    asyncio.run(main())
