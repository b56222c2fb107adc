"""Write the tables of ``docs/settings.md`` from the settings classes of the processes.

The marker above a table names processes. The table has the settings that these processes have and no other process has,
so each setting stands in one table.
"""

import re
import sys
from enum import Enum
from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from gsi.runtime.settings import ProcessSettings
from services.coordinator.settings import CoordinatorSettings
from services.draft.settings import DraftSettings
from services.exporter.settings import ExporterSettings
from services.gateway.settings import GatewaySettings
from services.prm.settings import PrmSettings
from services.target.settings import TargetSettings

ROOT = Path(__file__).parents[1]
DOCUMENT = Path("docs") / "settings.md"
TABLE = re.compile(r"(?<=<!-- settings: )([\w ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)  # the processes, the table
HEAD = "| variable | default | allowed | meaning |\n|---|---|---|---|\n"

Kind = type[ProcessSettings]
PROCESSES: dict[str, Kind] = {
    "draft": DraftSettings,
    "target": TargetSettings,
    "prm": PrmSettings,
    "coordinator": CoordinatorSettings,
    "gateway": GatewaySettings,
    "exporter": ExporterSettings,
}


def write(root: Path) -> None:
    """Write the document with new tables; the text around the tables stays. Exits if a setting has no table."""
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8")
    tables = _tables()
    missing = tables.keys() - {found[1] for found in TABLE.finditer(text)}
    if missing:
        sys.exit(f"{DOCUMENT} has no table of the settings of: {', '.join(sorted(missing))}")
    (root / DOCUMENT).parent.mkdir(parents=True, exist_ok=True)
    (root / DOCUMENT).write_text(TABLE.sub(lambda found: found[1] + found[2] + tables[found[1]], text), "utf-8")


def _tables() -> dict[str, str]:
    """Return each table by the processes that have its settings. Exits if a setting has no description."""
    owners: dict[
        tuple[str, str], list[str]
    ] = {}  # by name and the cells behind it: a process with another default has another row
    for process, kind in PROCESSES.items():
        for name, field in kind.model_fields.items():
            if not field.description:
                sys.exit(f"{kind.__name__}.{name} has no description")
            cells = f"{_default(field)} | {_allowed(field)} | {field.description}".replace("|  |", "| |")
            owners.setdefault((name, cells), []).append(process)
    tables: dict[str, str] = {}
    for (name, cells), processes in owners.items():
        variables = " ".join(f"`{PROCESSES[process].variable(name)}`" for process in processes)
        tables[" ".join(processes)] = tables.get(" ".join(processes), HEAD) + f"| {variables} | {cells} |\n"
    return tables


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "unset" if field.default is None else str(field.default) or "empty"


def _allowed(field: FieldInfo) -> str:
    """Return the values or the range of a setting; empty if its meaning says it."""
    kind = field.annotation
    if get_origin(kind) is Literal:
        return ", ".join(get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(str(member.value) for member in kind)
    return " ".join(_limit(limit) for limit in field.metadata if isinstance(limit, Ge | Gt | Le | Lt))


def _limit(limit: Ge | Gt | Le | Lt) -> str:
    match limit:
        case Ge(ge=number):
            return f"from {number:,.10g}"
        case Gt(gt=number):
            return f"above {number:,.10g}"
        case Le(le=number):
            return f"to {number:,.10g}"
        case Lt(lt=number):
            return f"below {number:,.10g}"
