"""The rendered prompt of a job, which its record keeps beside its steps.

A chat template may write something else tomorrow, such as the date, or after its checkpoint was exchanged. The kept
steps follow the tokens that were rendered first, so a job that resumes reads those and renders nothing.
"""

from gsi.jobs.step_record import Record

PROMPT_FIELD = "prompt"  # of the record in Redis


class KeptPrompt(Record):
    """The prompt's token ids by the draft's chat template, and its text if the job keeps its candidates."""

    token_ids: tuple[int, ...]
    text: str = ""
