"""The methods by name (``METHODS``), in the order in which documents and errors list them.

A method is a ``Method`` in a short module made of the parts in ``gsi/algorithm/parts.py``. How to add a method:
``docs/methods.md``.
"""

from collections.abc import Iterable
from importlib import import_module

from gsi.algorithm.method import Method

MODULES = (
    "gsi",
    "rsd",
    "specs",
    "best_of_n",
    "responses",
    "beam_search",
    "particle_filter",
    "dvts",
    "single_model",
)


def load_methods(modules: Iterable[str]) -> dict[str, Method]:
    """Return every ``Method`` that these modules of this package define, by name, in the order of definition."""
    values = [value for module in modules for value in vars(import_module(f"{__name__}.{module}")).values()]
    return {value.name: value for value in values if isinstance(value, Method)}


METHODS = load_methods(MODULES)
