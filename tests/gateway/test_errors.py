"""Refusals are made anew for each request."""

from collections.abc import Iterator
from importlib import import_module

from services.gateway.errors import ApiError
from tests.test_import_rules import FILE_OF

NEVER_RAISED = {"AWAY"}  # its body and its answer alone are used


def shared_errors() -> Iterator[str]:
    """Yield the names of modules' errors."""
    for name in FILE_OF:
        if name.startswith("services.gateway.") and not name.endswith("__main__"):
            yield from (key for key, value in vars(import_module(name)).items() if isinstance(value, ApiError))


def test_no_module_has_an_error_to_raise_again_and_again() -> None:
    """Each raise of one object adds its frames to those of the earlier ones, with the bodies of their requests."""
    assert set(shared_errors()) <= NEVER_RAISED
