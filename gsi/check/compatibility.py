"""Whether draft and target fit together.

The log ratio compares two likelihoods of the same token ids. So an id must name the same token in both models, and both
likelihoods must be of one kind and one temperature.
"""

from gsi.errors import MisconfiguredError
from gsi.model_info import ModelInfo

SHOWN_DIGITS = 12  # of a fingerprint in an error


def check_tokenizers(draft: ModelInfo, target: ModelInfo) -> None:
    """Raise MisconfiguredError that says what differs between the tokenizers of draft and target."""
    differences = compare_tokenizers(draft, target)
    if differences:
        raise MisconfiguredError(
            f"draft {draft.model} and target {target.model} have different tokenizers: {'; '.join(differences)}. "
            "GSI needs the same token ids in both: choose two models of one family"
        )


def compare_tokenizers(draft: ModelInfo, target: ModelInfo) -> list[str]:
    """Return a phrase for each difference that would make the log ratio meaningless."""
    pairs = {
        "vocabulary size": (draft.vocabulary_size, target.vocabulary_size),
        "vocabulary fingerprint": (draft.tokenizer_fingerprint, target.tokenizer_fingerprint),
        "token ids of the step delimiter": (draft.step_delimiter_token_ids, target.step_delimiter_token_ids),
    }
    return [
        f"{name} {_shorten(ours)} and {_shorten(theirs)}" for name, (ours, theirs) in pairs.items() if ours != theirs
    ]


def _shorten(value: object) -> object:
    return value[:SHOWN_DIGITS] if isinstance(value, str) else value


def check_likelihoods(draft: ModelInfo, target: ModelInfo) -> None:
    """Raise MisconfiguredError if the engines are set to likelihoods that cannot be compared."""
    if not set(draft.likelihoods) & set(target.likelihoods):
        raise MisconfiguredError(
            f"the draft reports likelihood {', '.join(draft.likelihoods)}, the target {', '.join(target.likelihoods)}: "
            "set GSI_DRAFT_LIKELIHOOD and GSI_TARGET_LIKELIHOOD to the same"
        )
    temperatures = {draft.temperature, target.temperature} - {None}
    if len(temperatures) > 1:
        raise MisconfiguredError(
            f"the draft is set to temperature {draft.temperature}, the target to {target.temperature}: "
            "set GSI_DRAFT_TEMPERATURE and GSI_TARGET_TEMPERATURE to the same"
        )
