"""Start the draft service: ``python -m services.draft``."""

from gsi.runtime.extras import imports_of

with imports_of("draft"):
    from gsi.engines.registry import LANGUAGE_ENGINES
    from gsi.rpc.service_process import run_service
    from services.draft.servicer import SERVICE, add_to_server, try_out
    from services.draft.settings import DraftSettings

if __name__ == "__main__":
    run_service("draft", SERVICE, DraftSettings, LANGUAGE_ENGINES, add_to_server, try_out)
