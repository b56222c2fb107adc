"""The reference in ``docs/sdk.md``: the signatures and docstrings of what ``gsi`` exports."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gsi

ROOT = Path(__file__).parents[1]
REFERENCE = re.compile(r"(?<=<!-- sdk -->\n).*?(?=<!-- end -->)", re.DOTALL)
FULL = ("AsyncClient", "Client", "JobRecord", "JobSummary")  # the others are described above, or by a schema


def write(root: Path) -> None:
    """Write the reference; the text around it stays."""
    name = Path("docs") / "sdk.md"
    text = (ROOT / name).read_text(encoding="utf-8")
    written = "\n".join(line for each in FULL for line in _describe(each, getattr(gsi, each)))
    (root / name).write_text(REFERENCE.sub(lambda _: f"{written}\n", text), encoding="utf-8")


def _describe(name: str, kind: type[Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{_to_markdown(kind.__doc__ or '')}\n"
    for member, found in vars(kind).items():
        if member == "__init__" or not member.startswith("_"):
            yield from _describe_member(name, member, found)


def _describe_member(owner: str, member: str, found: Any) -> Iterator[str]:
    shown = owner if member == "__init__" else member
    function = found.func if hasattr(found, "func") else found.fget if isinstance(found, property) else found
    if not inspect.isfunction(function) or not (function.__doc__ or member == "__init__"):
        return
    if function is found:
        yield f"```python\n{_show_call(shown, function)}\n```\n"
    else:
        yield f"`{shown}: {_show_type(inspect.signature(function).return_annotation)}`\n"
    if function.__doc__:
        yield f"{_to_markdown(function.__doc__)}\n"


def _show_call(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    words: list[str] = []
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = "" if each.default is each.empty else f" = {_show_default(each.default)}"
        words.append(f"{each.name}: {_show_type(each.annotation)}{default}")
    returned = signature.return_annotation
    arrow = "" if returned in (None, signature.empty) else f" -> {_show_type(returned)}"
    start = "await " if inspect.iscoroutinefunction(function) else ""
    line = f"{start}{name}({', '.join(words)}){arrow}"
    return line if len(line) <= 110 else f"{start}{name}(\n    " + ",\n    ".join(words) + f",\n){arrow}"


def _show_default(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(getattr(value, "__name__", None) or repr(value))


def _show_type(annotation: Any) -> str:
    """Return a type as it is written in code, without the modules that it comes from."""
    is_plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    shown = annotation.__name__ if is_plain else str(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Za-z])|~", "", shown)


def _to_markdown(docstring: str) -> str:
    """Return a docstring as Markdown: code in single backticks, no code block but those that it has."""
    return inspect.cleandoc(docstring).replace("``", "`")
