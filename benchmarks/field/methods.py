"""Which methods are run. All of ``METHODS`` are, so a new method appears by itself, under its name."""

from collections.abc import Iterable, Mapping

from gsi.algorithm.methods import METHODS

# Methods that are run in several variants, or not under their name alone.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "gsi": ("gsi", "gsi:responses"),
    "soft-best-of-n": (
        "soft-best-of-n:draft",
        "soft-best-of-n:target",
        "soft-best-of-n:draft:responses",
        "soft-best-of-n:target:responses",
    ),
    "best-of-n": (
        "best-of-n:steps",
        "best-of-n:steps:n_rule=pandora",
        "best-of-n:steps:n_rule=beacon",
        "best-of-n:last",
    ),
    "speculative-rejection": ("speculative-rejection:draft",),
    "confidence-vote": ("confidence-vote:draft", "confidence-vote:target"),
    "majority-vote": ("majority-vote:draft", "majority-vote:target"),
    "beam-search": ("beam-search:draft", "beam-search:target"),
    "particle-filter": ("particle-filter:draft", "particle-filter:target", "particle-filter:tilted"),
    "dvts": ("dvts:draft", "dvts:target"),
}
# Methods that this benchmark cannot run, each with the reason.
LEFT_OUT: Mapping[str, str] = {
    "speculative-decoding": "the transformers engine of the shipped family does not decode speculatively",
}


def list_labels(names: Iterable[str] = METHODS) -> tuple[str, ...]:
    """Return what is run of these methods, in their order."""
    return tuple(label for name in names if name not in LEFT_OUT for label in VARIANTS.get(name, (name,)))
