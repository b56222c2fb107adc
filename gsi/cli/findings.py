"""The findings of ``gsi check`` and ``gsi up --dry-run``, as they are shown. It needs what a process needs."""

from collections.abc import Mapping, Sequence

from rich.text import Text

from gsi.check.addresses import read_addresses
from gsi.check.findings import Finding, Level
from gsi.check.services import check_services
from gsi.cli.terminal import err, out

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


async def report_findings(
    given: Mapping[str, str | None], wait_seconds: float = 0, *, is_shown: bool = True
) -> list[Finding]:
    """Return what is found of the services at these addresses, by role; show it on standard output as it is found.

    Addresses that are not given are those of the coordinator's settings. Raises MisconfiguredError if one is missing.
    """
    findings: list[Finding] = []
    async for finding in check_services(read_addresses(given), wait_seconds):
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
