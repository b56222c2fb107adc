"""What a mistyped name may have meant."""

import pytest

from gsi.errors import InvalidRequestError
from gsi.evaluation.problems import load_problems
from gsi.jobs.job import parse_payload
from gsi.planning.gpus import find_gpu
from gsi.suggestions import list_names, suggest


def test_the_closest_name_is_suggested_and_none_where_none_is_close() -> None:
    """Upper case is not a mistake that hides a name."""
    assert suggest("RSDD", ["gsi", "rsd"]) == "; did you mean rsd?"
    assert suggest("elephant", ["gsi", "rsd"]) == ""
    assert list_names("gsl", ["gsi", "rsd"]) == "gsi, rsd; did you mean gsi?"


@pytest.mark.parametrize(
    ("payload", "meant"),
    [
        ({"params": {"method": "gsy"}}, "gsi"),
        ({"params": {"method": "rsd:hybird"}}, "hybrid"),
        ({"params": {"method": "rsd:bta=3"}}, "beta"),
        ({"params": {"weighting": "logistik"}}, "logistic"),
        ({"params": {"preset": "author"}}, "authors"),
        ({"params": {"tempreature": 1}}, "temperature"),
        ({"priority": "hihg"}, "high"),
        ({"promt": "?"}, "prompt"),
    ],
)
def test_a_payload_with_a_mistyped_name_is_refused_with_the_right_one(payload: dict[str, object], meant: str) -> None:
    """Of a field, a method, an option, a choice and a value."""
    with pytest.raises(InvalidRequestError, match=rf"; did you mean {meant}\?"):
        parse_payload({"prompt": "?", **payload})


def test_so_are_a_data_set_and_a_gpu() -> None:
    """The command's own names."""
    with pytest.raises(InvalidRequestError, match=r"did you mean math500\?"):
        load_problems("math50")
    with pytest.raises(InvalidRequestError, match=r"did you mean h100"):
        find_gpu("--gpu", "h10")
