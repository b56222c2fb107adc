"""A model service that has stopped is gone, whatever its runtime has left."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from gsi.engines.base import EngineSettings
from tests.services.test_model_services import EndlessEngine

ROOT = Path(__file__).parents[2]
SECONDS = 60.0


class Lingering(EndlessEngine):
    """Leaves a thread that never ends, which Python would wait for, and words that are not flushed."""

    @classmethod
    async def load(cls, settings: EngineSettings) -> "Lingering":
        threading.Thread(target=threading.Event().wait).start()
        return cls()

    def close(self) -> None:
        print("closed", end="")


def test_a_service_that_has_stopped_waits_for_no_thread_of_its_runtime() -> None:
    """Torch's take seconds; what the service has written arrives all the same."""
    script = (
        "from gsi.engines.registry import EngineTable\n"
        "from gsi.rpc.service_process import run_service\n"
        "from services.draft.servicer import SERVICE, add_to_server\n"
        "from services.draft.settings import DraftSettings\n"
        f"engines = EngineTable({{'transformers': '{__name__}:Lingering'}})\n"
        "run_service('draft', SERVICE, DraftSettings, engines, add_to_server)\n"
    )
    settings = {"GSI_DRAFT_LISTEN": "127.0.0.1:0", "GSI_DRAFT_MODEL": "shipped", "GSI_DRAFT_LOG_FORMAT": "json"}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if '"event": "ready"' in line:
                    break
            process.send_signal(signal.SIGTERM)
            written, log = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert process.returncode == 0
    assert written == "closed"
    assert '"event": "stopped"' in log.splitlines()[-1]
