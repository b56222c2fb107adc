"""``gsi merge``: one set of layers for a language model and a reward model."""

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from gsi.cli.terminal import explain_errors, out
from gsi.errors import InvalidRequestError, MisconfiguredError
from gsi.runtime.installation import how_to_install
from gsi.suggestions import list_names

ROLES = ("target", "draft")


def merge(
    language: Annotated[Path, typer.Argument(help="Folder of the target's checkpoint, or the draft's.")],
    reward: Annotated[Path, typer.Argument(help="Folder of the reward model's checkpoint.")],
    into: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that is not there yet.")],
    weight: Annotated[float, typer.Option(help="The language model's share of each layer, between 0 and 1.")] = 0.6,
    role: Annotated[str, typer.Option(help="Which language model it is: target or draft.")] = "target",
) -> None:
    """Merge a language model and a reward model of one architecture; write both with the same layers."""
    with explain_errors():
        if role not in ROLES:
            raise InvalidRequestError(f"--role: {role} is not allowed; allowed: {list_names(role, ROLES)}")
        merging = _import_merging()
        merging.merge(merging.Merge(language, reward, weight), into, role)
        out.print(f"{into / role}\n{into / 'prm'}", highlight=False, soft_wrap=True)


def _import_merging() -> Any:
    try:
        return import_module("gsi.engines.hugging_face.merging")
    except ModuleNotFoundError as error:
        raise MisconfiguredError(f"gsi merge is not installed ({error}): {how_to_install('transformers')}") from error
