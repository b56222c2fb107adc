"""Start the target service: ``python -m services.target``."""

from gsi.runtime.extras import imports_of

with imports_of("target"):
    from gsi.engines.registry import LANGUAGE_ENGINES
    from gsi.rpc.service_process import run_service
    from services.target.servicer import SERVICE, add_to_server
    from services.target.settings import TargetSettings

if __name__ == "__main__":
    run_service("target", SERVICE, TargetSettings, LANGUAGE_ENGINES, add_to_server)
