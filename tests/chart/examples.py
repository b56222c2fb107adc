"""The values files of the guides in ``docs/deploy``: which command each is for, and what that command renders.

An example's first lines have the command. A guide's blocks of YAML are values on top of its example's, or objects.
"""

import re
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tests.chart.rendering import CHART, ROOT, Object, helm, parsed

FOLDER = CHART / "examples"
GUIDES = ROOT / "docs" / "deploy"
APPLICATION = "argo-cd-application.yaml"
COMMAND = re.compile(r"helm (?:install|template) (\S+) \./helm((?:\s+\\?\s*--\S+(?: [^-\s\\]\S*)?)+)")
BLOCK = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command of Helm, as a text writes it."""

    release: str
    namespace: str
    values: tuple[Path, ...]

    def render(self, version: str = "4.3", more: str = "") -> list[Object]:
        """Return the objects that Helm would send to a cluster; ``more``: values on top of the files."""
        files = [word for path in self.values for word in ("--values", str(path))]
        arguments = ["template", self.release, str(CHART), "--namespace", self.namespace, *files]
        done = helm(version, *arguments, *(("--values", "-") if more else ()), stdin=more)
        assert done.returncode == 0, f"{self}: {done.stderr}"
        return parsed(done.stdout)


def examples() -> dict[str, Path]:
    """Return every example that has values, by its name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml")) if path.name != APPLICATION}


def commands_in(text: str) -> list[Command]:
    """Return the commands of Helm in a text that render the chart."""
    found = []
    for release, options in COMMAND.findall(re.sub(r"^# ?", "", text, flags=re.MULTILINE)):
        words = options.replace("\\", " ").split()
        given = [word for option, word in pairwise(words) if option == "--values"]
        found.append(Command(release, words[words.index("--namespace") + 1], tuple(ROOT / word for word in given)))
    return found


def command_of(name: str) -> Command:
    """Return the one command that an example is for."""
    (command,) = commands_in(examples()[name].read_text(encoding="utf-8"))
    assert command.values[-1] == examples()[name]
    return command


@cache
def _rendered(name: str, version: str) -> str:
    return yaml.dump_all(command_of(name).render(version), Dumper=yaml.CSafeDumper)


def example(name: str, version: str = "4.3") -> list[Object]:
    """Return what an example renders; the objects are the caller's."""
    return parsed(_rendered(name, version))


def blocks_of(guide: str) -> list[str]:
    """Return the blocks of YAML in a guide."""
    return BLOCK.findall((GUIDES / guide).read_text(encoding="utf-8"))


def is_object(block: str) -> bool:
    """Return whether a block is an object of Kubernetes, not values."""
    content: Any = yaml.safe_load(block)
    return isinstance(content, dict) and "apiVersion" in content
