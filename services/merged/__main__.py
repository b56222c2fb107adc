"""Start target and PRM as one model with two heads: ``python -m services.merged``.

The settings are those of the two services, each at its own address. docs/decisions/0057 says when one pass serves both.
"""

from gsi.runtime.extras import imports_of

with imports_of("merged", "transformers"):
    import asyncio
    from functools import partial

    from gsi.algorithm.parts import run_all
    from gsi.rpc.server import serve
    from gsi.rpc.service_process import load_and_try, run_process
    from gsi.runtime.settings import load_settings
    from services.merged.pair import MergedPair
    from services.prm import servicer as prm
    from services.prm.settings import PrmSettings
    from services.target import servicer as target
    from services.target.settings import TargetSettings


def main() -> None:
    of_target, of_prm = load_settings(TargetSettings), load_settings(PrmSettings)
    pair = MergedPair(of_target, of_prm)

    async def serve_both(stop: asyncio.Event) -> None:
        load_prm = partial(load_and_try, pair.load_prm, prm.try_out)
        await run_all(
            [
                serve(target.SERVICE, of_target, pair.load_target, target.add_to_server, stop),
                serve(prm.SERVICE, of_prm, load_prm, prm.add_to_server, stop),
            ]
        )

    run_process("merged", of_target, serve_both)


if __name__ == "__main__":
    main()
