"""Start the prm service: ``python -m services.prm``."""

from gsi.runtime.extras import imports_of

with imports_of("prm"):
    from gsi.engines.registry import REWARD_ENGINES
    from gsi.rpc.service_process import run_service
    from services.prm.servicer import SERVICE, add_to_server, try_out
    from services.prm.settings import PrmSettings

if __name__ == "__main__":
    run_service("prm", SERVICE, PrmSettings, REWARD_ENGINES, add_to_server, try_out)
