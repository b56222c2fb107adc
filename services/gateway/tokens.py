"""The tokens of a request, by the models that wrote or rated them."""

from dataclasses import dataclass
from typing import Self

from gsi.jobs.reader import JobRecord
from gsi.jobs.step_record import StepRecord


@dataclass(slots=True)
class Tokens:
    """Tokens by role. ``prm``: what the PRM rated, in the language models' vocabulary."""

    prompt: int = 0
    answer: int = 0
    draft: int = 0
    target: int = 0
    prm: int = 0

    @property
    def total(self) -> int:
        """What counts against a key's rate and budget: the prompt once, and what each model wrote or rated."""
        return self.prompt + self.draft + self.target + self.prm

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        """Return the tokens of a job as its record has them."""
        tokens = cls(prompt=int(record.fields.get("prompt_tokens") or 0))
        for step in record.steps:
            tokens.add_step(step)
        return tokens

    def add(self, other: "Tokens") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def add_step(self, step: StepRecord) -> None:
        self.answer += len(step.token_ids)
        self.draft += step.draft_tokens
        self.target += step.target_tokens
        self.prm += step.num_rated_tokens
