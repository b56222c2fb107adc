"""The methods by name (``METHODS``), in the order in which documents and errors list them.

A method is a short module made of the parts in ``gsi/algorithm/parts.py``. Each module has a tuple ``METHODS``. How to
add a method: ``docs/methods.md``.
"""

from collections.abc import Iterable
from importlib import import_module

from gsi.algorithm.method import Method

MODULES = (
    "gsi",
    "rsd",
    "best_of_n",
    "responses",
    "beam_search",
    "single_model",
)


def load_methods(modules: Iterable[str]) -> dict[str, Method]:
    """Return the methods of these modules of this package, by name."""
    loaded = [import_module(f"{__name__}.{module}") for module in modules]
    return {method.name: method for module in loaded for method in module.METHODS}


METHODS = load_methods(MODULES)
