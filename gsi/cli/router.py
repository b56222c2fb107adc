"""``gsi router``: the router of method ``arbitrage``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gsi.cli.terminal import err, explain_errors, import_evaluation, out, print_json

router = typer.Typer(no_args_is_help=True, help="The router of method arbitrage.")


@router.callback()
def _group() -> None:
    """The router of method arbitrage."""


@router.command()
def train(
    records: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of gsi eval with method arbitrage-oracle, or files of gsi run --steps with its results."
        ),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the router and its card.")] = Path("router"),
    margin: Annotated[
        float, typer.Option(min=0, help="By how much the target's reward must be higher, for its step to be better.")
    ] = 0.1,
    with_rejected: Annotated[
        bool,
        typer.Option(
            "--with-rejected", help="Read rejected steps of gsi, rsd and arbitrage as well: they are all of low reward."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The quality as one JSON object on standard output.")] = False,
) -> None:
    """Learn from records when the target's step is better than the draft's; write the router and its card."""
    with explain_errors():
        found = import_evaluation("router_examples").read_examples(records, with_rejected=with_rejected)
        learned, quality = import_evaluation("router_training").train_router(found, margin)
        import_evaluation("router_card").write_router(out_folder, learned, quality)
        if as_json:
            print_json(asdict(quality))
            return
        gain = quality.auc_gain
        out.print(
            f"{quality.num_examples:,} steps of {quality.num_problems} problems; AUC {quality.auc}, "
            f"{gain.value:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] over the reward alone",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
        err.print(f"router  {out_folder / 'router.json'}; its card: {out_folder / 'README.md'}", highlight=False)
