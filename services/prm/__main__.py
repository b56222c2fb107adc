"""Start the prm service: ``python -m services.prm``."""

from gsi.engines.registry import follow_reward_engine, load_reward_engine
from gsi.rpc.service_process import run_service
from services.prm.servicer import SERVICE, add_to_server
from services.prm.settings import PrmSettings

if __name__ == "__main__":
    run_service("prm", SERVICE, PrmSettings, load_reward_engine, follow_reward_engine, add_to_server)
