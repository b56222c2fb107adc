"""A model service whose engine answers at once: ``python -m benchmarks.no_op_service ROLE``, in a process of its own.

It is the service of that role in all but its engine, which ``GSI_<ROLE>_ENGINE`` names.
"""

import sys

from gsi.engines.registry import EngineTable
from gsi.rpc.service_process import run_service
from services.draft import servicer as draft
from services.draft.settings import DraftSettings
from services.prm import servicer as prm
from services.prm.settings import PrmSettings
from services.target import servicer as target
from services.target.settings import TargetSettings

ENGINES = ("Together", "OneByOne", "Held", "Judge")
SERVICES = {
    "draft": (draft.SERVICE, DraftSettings, draft.add_to_server),
    "target": (target.SERVICE, TargetSettings, target.add_to_server),
    "prm": (prm.SERVICE, PrmSettings, prm.add_to_server),
}

if __name__ == "__main__":
    role = sys.argv[1]
    service, settings, add_to_server = SERVICES[role]
    table = EngineTable({name: f"benchmarks.no_op_engines:{name}" for name in ENGINES})
    run_service(role, service, settings, table, add_to_server)
