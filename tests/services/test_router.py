"""The router of a coordinator: its file, the models that it belongs to, and the jobs that need it."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsi.algorithm.params import Params
from gsi.algorithm.router import LogisticRouter
from gsi.engines.hugging_face.fingerprint import fingerprint_checkpoint
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.jobs.job_params import JobParams
from gsi.local.stack import find_router
from gsi.router_file import ROUTER_FILE, RouterFile, find_misfit, read_router
from gsi.runtime.installation import SHIPPED_MODELS
from services.coordinator.compatibility import Limits, common_limits
from services.coordinator.models import open_router
from tests.services.test_compatibility import DRAFT, PRM, TARGET

INFOS = {"draft": DRAFT, "target": TARGET, "prm": PRM}
NUMBERS: dict[str, Any] = {
    "features": ["reward"],
    "means": [0.5],
    "scales": [0.25],
    "weights": [-2.0],
    "intercept": 0.0,
}


def models_of(**others: Any) -> dict[str, dict[str, str]]:
    return {role: {"model": info.model, **others.get(role, {})} for role, info in INFOS.items()}


def made(**others: Any) -> RouterFile:
    return RouterFile.model_validate_json(json.dumps({**NUMBERS, "models": models_of(), **others}))


def test_a_file_that_was_written_is_the_same_router(tmp_path: Path) -> None:
    """Numbers, models and quality come back, with the digest by which results name it."""
    file = made(margin=0.1, quality={"auc": 0.9})
    (tmp_path / "router.json").write_text(file.model_dump_json(indent=2))
    read = read_router(tmp_path / "router.json")
    assert read == open_router(tmp_path / "router.json") == file.model_copy(update={"fingerprint": read.fingerprint})
    assert read.fingerprint == hashlib.sha256((tmp_path / "router.json").read_bytes()).hexdigest()
    assert file.to_router() == LogisticRouter(("reward",), (0.5,), (0.25,), (-2.0,), 0.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no JSON", "Invalid JSON"),
        ("{}", "features: Field required"),
        (json.dumps({**NUMBERS, "version": 2}), "version: Input should be 1"),
        (json.dumps({**NUMBERS, "features": ["mood"]}), 'features: "mood" is not allowed; allowed: reward, '),
        (json.dumps({**NUMBERS, "weights": [1, 2]}), "weights: allowed: a finite number for each of 1 features"),
    ],
)
def test_a_file_that_is_no_router_is_named_with_the_reason(tmp_path: Path, text: str, reason: str) -> None:
    """The coordinator that was given it does not start."""
    path = tmp_path / "router.json"
    path.write_text(text)
    with pytest.raises(MisconfiguredError) as refused:
        open_router(path)
    assert str(refused.value).startswith(f"router {path}: ")
    assert reason in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A setting that names nothing is an error, not a coordinator without a router."""
    with pytest.raises(MisconfiguredError, match="cannot be read"):
        open_router(tmp_path / "nowhere.json")


@pytest.mark.parametrize(
    ("known", "has", "misfit"),
    [
        ("abc", "abc", None),
        ("abc", "def", "its target is large (abc), not large (def)"),
        ("abc", "", None),
        ("", "def", None),
    ],
)
def test_a_model_is_known_by_its_files(known: str, has: str, misfit: str | None) -> None:
    """By the fingerprint where both sides know it."""
    file = made(models=models_of(target={"checkpoint_fingerprint": known}))
    infos = {**INFOS, "target": replace(TARGET, checkpoint_fingerprint=has)}
    assert find_misfit(file, infos) == misfit


def test_without_a_fingerprint_a_model_is_known_by_its_name() -> None:
    """By its last part: a folder of models may lie anywhere."""
    assert find_misfit(made(models=models_of(prm={"model": "/models/judge"})), INFOS) is None
    assert find_misfit(made(models=models_of(prm={"model": "other"})), INFOS) == "its prm is other, not judge"
    assert find_misfit(made(models={}), INFOS) is None  # written by hand, for every trio


def test_a_job_of_arbitrage_needs_a_router_of_these_models() -> None:
    """It is refused with the reason and what makes a router; jobs of other methods run."""
    limits, job = common_limits(DRAFT, TARGET, PRM), JobParams(method="arbitrage")
    sentence = "params.method: arbitrage needs a router of these models, and there is none: "
    with pytest.raises(InvalidRequestError) as refused:
        limits.with_router(None, INFOS).check(job)
    assert str(refused.value) == f"{sentence}GSI_COORDINATOR_ROUTER names none; gsi router train makes one"
    foreign = limits.with_router(made(models=models_of(prm={"model": "other"})), INFOS)
    with pytest.raises(InvalidRequestError) as refused:
        foreign.check(job)
    reason = "the coordinator's is for other models (its prm is other, not judge)"
    assert str(refused.value) == f"{sentence}{reason}; gsi router train makes one"
    for method in ("arbitrage-oracle", "gsi"):
        foreign.check(JobParams(method=method))


def test_a_job_gets_the_coordinators_router() -> None:
    """No job chooses it."""
    limits: Limits = common_limits(DRAFT, TARGET, PRM).with_router(made(), INFOS)
    limits.check(JobParams(method="arbitrage"))
    assert limits.fit(Params(method="arbitrage")).router == made().to_router()


@pytest.mark.parametrize("method", ["arbitrage", "arbitrage-oracle", "gsi"])
def test_a_result_names_the_router_only_where_one_decides(method: str) -> None:
    """By the file that the coordinator read, whatever the job says."""
    file = made().model_copy(update={"fingerprint": "ab" * 32})
    limits = common_limits(DRAFT, TARGET, PRM).with_router(file, INFOS)
    assert limits.name_router(method) == ("ab" * 32 if method == "arbitrage" else "")


def test_a_file_cannot_give_itself_a_name(tmp_path: Path) -> None:
    """What it says of its digest is not read, and nobody writes it."""
    path = tmp_path / "router.json"
    path.write_text(json.dumps({**NUMBERS, "fingerprint": "mine"}))
    assert read_router(path).fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "fingerprint" not in json.loads(read_router(path).model_dump_json())


def test_the_shipped_router_is_of_the_shipped_models() -> None:
    """Models that are trained again need another: training/router_problems.py says how it was made."""
    shipped = open_router(None)
    assert shipped is not None
    for role, model in shipped.models.items():
        assert model.checkpoint_fingerprint == fingerprint_checkpoint(str(SHIPPED_MODELS / role), None)
    assert set(shipped.models) == set(INFOS)


def test_a_router_beside_the_models_is_the_local_stacks(tmp_path: Path) -> None:
    """``gsi up --models FOLDER`` takes it from there; without one the coordinator's own setting stands."""
    assert find_router(None) == find_router(tmp_path) == {}
    (tmp_path / "router").mkdir()
    path = tmp_path / "router" / ROUTER_FILE
    path.write_text(made().model_dump_json())
    assert find_router(tmp_path) == {"GSI_COORDINATOR_ROUTER": str(path)}
