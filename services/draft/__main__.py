"""Start the draft service: ``python -m services.draft``."""

from gsi.engines.registry import follow_language_engine, load_language_engine
from gsi.rpc.service_process import run_service
from services.draft.servicer import SERVICE, add_to_server
from services.draft.settings import DraftSettings

if __name__ == "__main__":
    run_service("draft", SERVICE, DraftSettings, load_language_engine, follow_language_engine, add_to_server)
