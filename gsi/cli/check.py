"""``gsi check``: whether three services work together, and what to do about what does not."""

from dataclasses import asdict
from typing import Annotated

import typer

from gsi.check.findings import Level, worst
from gsi.cli.terminal import EXIT_FAILED, explain_errors, import_findings, print_json, run

AddressOption = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Address of the service. [default: GSI_COORDINATOR_<ROLE>]")
]


def check(
    draft: AddressOption = None,
    target: AddressOption = None,
    prm: AddressOption = None,
    wait_seconds: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, max=86_400, help="How long to wait for services that load their models."
        ),
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Check whether three model services work together. Exit 1 if jobs would fail.

    It asks the services that GSI_COORDINATOR_DRAFT, _TARGET and _PRM name, and lets each do its part of one step.
    """
    with explain_errors():
        given = {"draft": draft, "target": target, "prm": prm}
        findings = run(import_findings().report_findings(given, wait_seconds, is_shown=not as_json))
    if as_json:
        print_json({"level": worst(findings), "findings": [asdict(finding) for finding in findings]})
    if worst(findings) is Level.ERROR:
        raise typer.Exit(EXIT_FAILED)
