"""Do three models fit together? The log ratio compares likelihoods of token ids, so ids must name the same tokens."""

from gsi.engines.base import ModelInfo
from gsi.errors import MisconfiguredError

SHOWN_DIGITS = 12  # of a fingerprint, in an error


def check_tokenizers(draft: ModelInfo, target: ModelInfo) -> None:
    """Raise MisconfiguredError that says what differs between the tokenizers of draft and target."""
    differences = tokenizer_differences(draft, target)
    if differences:
        raise MisconfiguredError(
            f"draft {draft.model} and target {target.model} have different tokenizers: {'; '.join(differences)}. "
            "GSI needs the same token ids in both: choose two models of one family"
        )


def tokenizer_differences(draft: ModelInfo, target: ModelInfo) -> list[str]:
    """Return a phrase for each difference that would make the log ratio meaningless; empty if there is none."""
    pairs = {
        "vocabulary size": (draft.vocabulary_size, target.vocabulary_size),
        "vocabulary fingerprint": (
            draft.tokenizer_fingerprint[:SHOWN_DIGITS],
            target.tokenizer_fingerprint[:SHOWN_DIGITS],
        ),
        "token ids of the step delimiter": (draft.step_delimiter_token_ids, target.step_delimiter_token_ids),
    }
    return [f"{name} {ours} and {theirs}" for name, (ours, theirs) in pairs.items() if ours != theirs]
