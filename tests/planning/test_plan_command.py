"""``gsi plan``: what it prints, as tables and as JSON, and how it refuses."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gsi.cli.main import app
from gsi.planning.calls import CALLS
from gsi.runtime.installation import SHIPPED_MODELS

SPECULATIVE = [label for label, calls in CALLS.items() if calls.is_speculative]


def plan(*options: str) -> Result:
    return CliRunner(env={"COLUMNS": "80"}).invoke(app, ["plan", *options])


def plan_json(*options: str) -> Any:
    result = plan("--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_plan_fits_a_terminal_and_has_every_part() -> None:
    """Phases, methods, memory and break-even; the tables within 80 columns, and no cell cut."""
    result = plan()
    assert result.exit_code == 0, result.output
    for part in ("draft writes", "PRM reads", "times in a step", "weights, GB", "jobs/h", "acceptance rate"):
        assert part in result.stdout
    assert "…" not in result.stdout
    assert max(map(len, result.stdout.split("GSI is faster")[0].splitlines()[4:])) <= 80


def test_the_json_has_bytes_flops_seconds_memory_and_cost() -> None:
    """One object, with figures that agree with each other."""
    found = plan_json("--gpu", "h200", "--n", "4", "--price", "2")
    gsi = found["methods"]["gsi"]
    assert found["gpu"]["name"] == "h200"
    assert found["workload"]["n"] == 4
    assert [phase["role"] for phase in gsi["phases"]] == ["draft", "target", "prm", "target", "prm"]
    assert all(phase["bytes"] > 0 and phase["flops"] > 0 and phase["seconds"] > 0 for phase in gsi["phases"])
    assert gsi["floor_seconds_per_step"] < gsi["seconds_per_step"] < gsi["seconds_per_answer"]
    for one in found["methods"].values():
        hours = one["gpu_hours_per_1000_answers"]["full_batch"]
        assert hours == pytest.approx(1000 * one["gpus"] / one["jobs_per_hour_full_batch"])
        assert one["dollars_per_1000_answers"]["full_batch"] == pytest.approx(2 * hours)
    assert 0 < found["break_even_acceptance"]["seconds_of_sbon_target"] < 1


def test_models_may_be_folders() -> None:
    """The shipped family is planned from its config.json files."""
    found = plan_json(*(f"--{role}={SHIPPED_MODELS / role}" for role in ("draft", "target", "prm")))
    assert found["models"]["target"]["parameters"] < 6e6


def test_the_published_figures_stand_beside_the_planned_ones() -> None:
    """Eight rows, each with its error."""
    rows = plan_json("--published")
    assert [row["published"] for row in rows] == [0.87, 0.74, 0.79, 1.14, 2.06, 1.88, 1.99, 2.76]
    for row in rows:
        assert row["relative_error"] == pytest.approx(row["planned"] / row["published"] - 1)
    assert "soft-best-of-n:draft" in plan("--published").stdout


def test_a_method_with_a_share_of_its_own_is_planned_when_the_share_is_given() -> None:
    """Without the share there is a sentence and no number."""
    without, given = plan_json(), plan_json("--accept", "spec-reason=0.8")
    assert "--accept spec-reason=SHARE" in without["unplanned"]["spec-reason"]
    assert "spec-reason" not in without["methods"]
    assert given["methods"]["spec-reason"]["acceptance"] == 0.8
    assert "spec-reason" not in given["unplanned"]
    assert "rsd:speculative, arbitrage-oracle:speculative, speculative-decoding: " in plan().stdout
    assert "Not planned: confidence-vote:draft, confidence-vote:target: " in plan().stdout


def test_each_quantity_has_an_option() -> None:
    """Methods that need more than an acceptance are planned once it is given, and the plan says from where it is."""
    found = plan_json(
        *("--accept", "conf-spec=0.8", "--sure", "conf-spec=0.6"),
        *("--token-acceptance", "0.7", "--speculative-tokens", "4"),
        *("--written", "confidence-vote:draft=0.75", "--accept", "gsi:responses=0.5"),
        *("--accept", "gsi:n_rule=0.9", "--mean-n", "gsi:n_rule=8"),
    )
    told = {"conf-spec", "speculative-decoding", "confidence-vote:draft", "gsi:responses", "gsi:n_rule"}
    assert told <= found["methods"].keys()
    assert not told & found["unplanned"].keys()
    assert found["workload"]["quantities"] == {
        "sure": {"conf-spec": 0.6, "conf-spec:speculative": 0.6},
        "written": {"confidence-vote:draft": 0.75},
        "mean_n": {"gsi:n_rule": 8},
        "token_acceptance": dict.fromkeys(SPECULATIVE, 0.7),
        "speculative_tokens": dict.fromkeys(SPECULATIVE, 4),
    }
    assert found["sources"]["acceptance"]["gsi"] == "the paper"
    assert found["sources"]["acceptance"]["conf-spec"] == "--accept"
    assert found["sources"]["speculative_tokens"]["speculative-decoding"] == "--speculative-tokens"


def test_what_resamples_speculatively_accepts_as_without() -> None:
    """Speculation changes no law: the acceptance of GSI is also that of a speculative target, unless one is given."""
    engine = ("--token-acceptance", "0.7", "--speculative-tokens", "4")
    found = plan_json(*engine, "--acceptance", "0.8", "--accept", "rsd:speculative=0.5")
    assert [found["methods"][label]["acceptance"] for label in ("gsi:speculative", "rsd:speculative")] == [0.8, 0.5]
    assert found["sources"]["acceptance"]["gsi:speculative"] == "--acceptance"
    assert (
        "; token acceptance 0.7 (--token-acceptance); speculative tokens 4 (--speculative-tokens)\n"
        in plan(*engine).stdout
    )


def test_with_every_method_the_tables_fit_a_terminal() -> None:
    """The draft's judgements have a column of their own, and long names more than one line."""
    result = plan(
        *("--accept", "conf-spec=0.8", "--sure", "conf-spec=0.6"),
        *("--mean-n", "soft-best-of-n:target:responses:n_rule=6"),
    )
    tables = result.stdout.split("GSI is faster")[0]
    assert "judges" in tables
    assert "soft-best-of-n:target" in tables
    assert "  :responses:n_rule" in tables
    assert "…" not in tables
    assert max(map(len, tables.splitlines()[4:])) <= 80


def test_the_plan_says_what_is_known_and_from_where() -> None:
    """The paper's acceptances, unless an option gives another."""
    assert (
        "known of methods: acceptance gsi 0.8 (--acceptance), rsd 0.97 (the paper)"
        in plan("--acceptance", "0.8").stdout
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--accept", "gsi=0.9"), "--accept: gsi is not allowed; allowed: "),
        (("--accept", "spec-reason=2"), "--accept: spec-reason=2 is not allowed; allowed: spec-reason=SHARE"),
        (("--accept", "spec-reason"), "--accept: spec-reason is not allowed; allowed: spec-reason=SHARE"),
        (("--accept", "conf-spec=nan"), "--accept: conf-spec=nan is not allowed; allowed: conf-spec=SHARE"),
        (("--sure", "spec-reason=0.5"), "--sure: spec-reason is not allowed; allowed: conf-spec"),
        (("--mean-n", "gsi=4"), "--mean-n: gsi is not allowed; allowed: gsi:n_rule"),
        (("--mean-n", "gsi:n_rule=inf"), "--mean-n: gsi:n_rule=inf is not allowed; allowed: gsi:n_rule=N, a number"),
        (
            ("--accept", "gsi:n_rule=0.9", "--mean-n", "gsi:n_rule=17"),
            "--mean-n: gsi:n_rule=17 is not allowed at n = 16; allowed: a number from 4",
        ),
        (("--written", "best-of-n:draft=0.5"), "--written: best-of-n:draft is not allowed; allowed: "),
        (
            ("--written", "confidence-vote:draft=0.1"),
            "--written: confidence-vote:draft=0.1 is not allowed at n = 16; allowed: a number from 0.5",
        ),
        (("--accept", "speculative-decoding=0.7"), "--accept: speculative-decoding is not allowed; allowed: "),
        (("--gpu", "v100"), "--gpu: v100 is not allowed; allowed: a100-40gb"),
        (("--draft", "gpt"), "--draft: gpt is not allowed; allowed: a folder with config.json"),
        (("--system", "theirs"), "--system: theirs is not allowed; allowed: ours, paper"),
        (("--gpu", "l4", "--one-gpu"), "--one-gpu: l4 has 24 GB"),
        (("--steps", "inf"), "--steps: inf is not allowed; allowed: a finite number"),
        (("--step-tokens", "inf"), "--step-tokens: inf is not allowed; allowed: a finite number"),
        (
            ("--calibration", "nowhere"),
            "--calibration: nowhere has no calibration.json and no methods.json; allowed: a folder of",
        ),
    ],
)
def test_what_is_not_allowed_is_refused_by_its_option(options: tuple[str, ...], said: str) -> None:
    """Exit code 2, one line, the option and what is allowed."""
    result = plan(*options)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"refused  {said}")
