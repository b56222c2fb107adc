"""The command ``gsi`` as a whole: its table of subcommands."""

import subprocess
import sys

import pytest

from gsi.cli.main import COMMANDS, load_command

HEAVY = ("redis", "pydantic", "grpc", "structlog", "asyncio")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_of_a_subcommand_what_its_own_help_says(name: str) -> None:
    """``gsi --help`` shows the table's sentence, ``gsi NAME --help`` the docstring."""
    first_paragraph = " ".join(load_command(name).help.split("\n\n")[0].split())
    assert COMMANDS[name][1] == first_paragraph


def test_help_imports_no_subcommand() -> None:
    """A list of names costs no more than a library for command lines."""
    help_alone = "import sys, gsi.cli.main as main; main.app(['--help'], standalone_mode=False)"
    code = f"{help_alone}; print([name for name in {HEAVY} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "submit" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", COMMANDS)
def test_no_subcommand_offers_to_change_the_shell(name: str) -> None:
    """Completion is not installed by ``gsi``, nor by one of its groups."""
    assert not {
        option for parameter in load_command(name).params for option in parameter.opts if "completion" in option
    }
