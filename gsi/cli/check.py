"""``gsi check``: whether three services work together, and what to do about what does not."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from gsi.check.addresses import ServiceAddresses, read_addresses
from gsi.check.findings import Finding, Level, worst
from gsi.check.services import check_services
from gsi.cli.terminal import EXIT_FAILED, err, explain_errors, out, print_json, run

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}

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
        addresses = read_addresses({"draft": draft, "target": target, "prm": prm})
        findings = run(report_findings(addresses, wait_seconds, is_shown=not as_json))
    if as_json:
        print_json({"level": worst(findings), "findings": [asdict(finding) for finding in findings]})
    if worst(findings) is Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


async def report_findings(
    addresses: ServiceAddresses, wait_seconds: float = 0, *, is_shown: bool = True
) -> list[Finding]:
    """Return what is found, and show it on standard output as it is found."""
    findings: list[Finding] = []
    async for finding in check_services(addresses, wait_seconds):
        findings.append(finding)
        if is_shown:
            show(finding)
    if is_shown:
        _show_sum(findings)
    return findings


def show(finding: Finding) -> None:
    """Print a finding, and below it what to do."""
    out.print(
        Text.assemble((f"{finding.level:<8}", STYLES[finding.level]), f"{finding.subject:<17}{finding.text}"),
        soft_wrap=True,
    )
    if finding.advice:
        out.print(Text(f"{'':<25}{finding.advice}"), soft_wrap=True)


def _show_sum(findings: Sequence[Finding]) -> None:
    number = {level: sum(finding.level is level for finding in findings) for level in Level}
    said = f"{number[Level.ERROR]} errors, {number[Level.WARNING]} warnings; docs/own-models.md explains each finding"
    err.print(said, style="dim", highlight=False)
