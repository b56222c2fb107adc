"""Which methods are run. All of ``METHODS`` are, so a new method appears by itself, under its name."""

from collections.abc import Iterable, Mapping

from gsi.algorithm.methods import METHODS

# Methods that are run in several variants, or not under their name alone.
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "soft-best-of-n": ("soft-best-of-n:draft", "soft-best-of-n:target"),
    "best-of-n": ("best-of-n:steps", "best-of-n:last"),
    "majority-vote": ("majority-vote:draft", "majority-vote:target"),
    "beam-search": ("beam-search:draft", "beam-search:target"),
}
# Methods that this benchmark cannot run, each with the reason.
LEFT_OUT: Mapping[str, str] = {
    "speculative-decoding": "the transformers engine of the shipped family does not decode speculatively",
}


def list_labels(names: Iterable[str] = METHODS) -> tuple[str, ...]:
    """Return what is run of these methods, in their order."""
    return tuple(label for name in names if name not in LEFT_OUT for label in VARIANTS.get(name, (name,)))
