"""The generated references of the documentation site: SDK, command line and gRPC."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

import gsi
from gsi.cli.main import COMMANDS, load_command

ROOT = Path(__file__).parents[1]
SERVICE, MESSAGE, ENUM = 6, 4, 5  # fields of FileDescriptorProto, by which a comment is found
METHOD, FIELD, NESTED_ENUM, VALUE = 2, 2, 4, 2  # fields of the descriptors below it


def write(folder: Path) -> None:
    """Write each reference as a page."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"sdk": sdk_page(), "cli": cli_page(), "grpc": grpc_page()}
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


def sdk_page() -> str:
    """Return what ``gsi`` exports, for mkdocstrings to fill in."""
    entries = "\n\n".join(f"::: {place}.{name}" for name, place in gsi._PLACES.items())
    return f"# Python SDK\n\nWhat `from gsi import …` has. [The SDK by examples](../docs/sdk.md).\n\n{entries}\n"


def cli_page() -> str:
    """Return every command with its arguments and options, from the command line itself."""
    context = click.Context(click.Group("gsi"), info_name="gsi")
    commands = "\n".join(part for name in COMMANDS for part in _command(load_command(name), context, name))
    return f"# Command line\n\n`gsi COMMAND --help` says the same.\n\n{commands}\n"


def _command(command: Any, parent: click.Context, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"## {context.command_path}\n"
    yield f"{_to_markdown(command.help or '')}\n"
    yield f"```text\n{context.command_path} {usage}\n```\n"
    rows = [row for parameter in command.params if (row := parameter.get_help_record(context))]
    if rows:
        yield "| option | meaning |\n|---|---|"
        yield "\n".join(f"| `{_in_cell(option)}` | {_in_cell(_to_markdown(said))} |" for option, said in rows) + "\n"
    for nested, each in getattr(command, "commands", {}).items():
        yield from _command(each, context, nested)


def grpc_page() -> str:
    """Return services and messages with their comments, from the compiled contract."""
    parts = ["# gRPC\n\nThe contract between coordinator and model services, package `gsi.v1`.\n"]
    for file in _compile():
        parts += _describe(file)
    return "\n".join(parts) + "\n"


def _compile() -> list[FileDescriptorProto]:
    protos = sorted(str(path) for path in (ROOT / "protos").rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "contract"
        arguments = [f"-I{ROOT / 'protos'}", "--include_source_info", f"--descriptor_set_out={output}", *protos]
        if protoc.main(["protoc", *arguments]):
            raise SystemExit("protoc failed")
        return list(FileDescriptorSet.FromString(output.read_bytes()).file)


def _describe(file: FileDescriptorProto) -> Iterator[str]:
    said = {
        tuple(place.path): (place.leading_comments + place.trailing_comments).strip()
        for place in file.source_code_info.location
    }
    yield f"## {file.name}\n"
    for number, service in enumerate(file.service):
        yield f"### {service.name}\n\n{_text(said, SERVICE, number)}\n"
        yield "| call | takes | returns | meaning |\n|---|---|---|---|"
        for place, call in enumerate(service.method):
            returned = f"{'stream of ' if call.server_streaming else ''}`{_short(call.output_type)}`"
            meaning = _text(said, SERVICE, number, METHOD, place)
            yield f"| `{call.name}` | `{_short(call.input_type)}` | {returned} | {meaning} |"
        yield ""
    for number, message in enumerate(file.message_type):
        yield f"### {message.name}\n\n{_text(said, MESSAGE, number)}\n"
        if message.field:
            yield "| field | number | type | meaning |\n|---|---|---|---|"
        for place, field in enumerate(message.field):
            meaning = _text(said, MESSAGE, number, FIELD, place)
            yield f"| `{field.name}` | {field.number} | `{_type(field)}` | {meaning} |"
        yield ""
    for number, enum in enumerate(file.enum_type):
        yield f"### {enum.name}\n\n{_text(said, ENUM, number)}\n\n| value | number | meaning |\n|---|---|---|"
        for place, value in enumerate(enum.value):
            yield f"| `{value.name}` | {value.number} | {_text(said, ENUM, number, VALUE, place)} |"
        yield ""


def _text(said: dict[tuple[int, ...], str], *path: int) -> str:
    return _in_cell(" ".join(said.get(path, "").split()))


def _type(field: FieldDescriptorProto) -> str:
    kind = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    named = _short(field.type_name) if field.type_name else kind
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {named}"
    return f"optional {named}" if field.proto3_optional else named


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _to_markdown(text: str) -> str:
    return re.sub(r"<(?=\w)", "&lt;", text.replace("``", "`"))


def _in_cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
