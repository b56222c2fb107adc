"""The entry point of the command ``gsi``. It imports little, so that Ctrl-C is silent while the rest is imported."""

from gsi.runtime.interrupts import silent_interrupts


def main() -> None:
    """Run the command line."""
    with silent_interrupts():
        from gsi.cli.main import main as run  # noqa: PLC0415 (interrupts are silent from here on)
    run()
