"""The files of the web page: what no browser is needed to see."""

import json
import re
from pathlib import Path

import pytest

from services.gateway.web.files import FOLDER, TYPES, load_files
from services.gateway.web.parameters import SHARED, describe_methods

VENDOR = FOLDER / "vendor"
OWN = sorted(
    path for path in FOLDER.rglob("*") if path.suffix in {".js", ".css", ".html"} and VENDOR not in path.parents
)
IMPORT = re.compile(r"""(?:^import [^"]*|\bimport\()"([^"]+)\"""", re.MULTILINE)
# Ways from a text to markup or to a program, and addresses of other hosts (but for the name of SVG).
FORBIDDEN = re.compile(
    r"(?:inner|outer)HTML\s*[+]?=|insertAdjacentHTML|document\.write|DOMParser|dangerouslySetInnerHTML"
    r"|\beval\(|new Function"
    r"|(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}"
)
SVG_NAME = "http://www.w3.org/2000/svg"
MAX_LINES = 300


@pytest.fixture(params=OWN, ids=lambda path: str(path.relative_to(FOLDER)))
def own(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_a_file_of_ours_is_short_and_makes_no_markup_of_text(own: Path) -> None:
    """The policy would refuse it in a browser; here it is seen before."""
    text = own.read_text().replace(SVG_NAME, "")
    assert FORBIDDEN.findall(text) == []
    assert len(text.splitlines()) <= MAX_LINES


def test_an_import_leads_to_a_file_of_the_page(own: Path) -> None:
    """By a relative path, as browsers without an import map need it."""
    for name in IMPORT.findall(own.read_text()) if own.suffix == ".js" else ():
        assert name.startswith("."), name
        assert (own.parent / name).is_file(), name


def test_every_module_is_used() -> None:
    """From the page's first file on, what is imported reaches all of them."""
    reached, waiting = set[Path](), [FOLDER / "app.js", FOLDER / "theme.js"]
    while waiting:
        path = waiting.pop().resolve()
        if path not in reached:
            reached.add(path)
            waiting += [path.parent / name for name in IMPORT.findall(path.read_text())]
    assert {path for path in OWN if path.suffix == ".js"} <= reached


def test_markup_has_no_inline_script_or_style() -> None:
    """Which the policy forbids."""
    text = (FOLDER / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]* src=)", text)


def test_a_library_has_its_licence_and_its_version() -> None:
    """In its folder, and in the table of all."""
    table = (VENDOR / "README.md").read_text()
    folders = [path for path in VENDOR.iterdir() if path.is_dir()]
    for folder in folders:
        assert (folder / "LICENSE").stat().st_size > 500
        assert re.search(rf"^\| `{folder.name}` \| `[a-z]+` \d+\.\d+\.\d+", table, re.MULTILINE)
    version = re.search(r"`katex` (\S+)", table)
    assert version
    assert f'"{version[1]}"' in (VENDOR / "katex" / "katex.min.js").read_text()


def test_every_file_that_the_page_needs_is_served() -> None:
    """Licences and notes are not."""
    served = load_files()
    assert {path.relative_to(FOLDER).as_posix() for path in OWN} <= set(served)
    assert all(Path(name).suffix in TYPES for name in served)


def test_a_font_of_katex_is_there_in_the_form_that_its_styles_name() -> None:
    """WOFF2 alone, which every browser that can show the page reads."""
    named = set(re.findall(r"url\(([^)]+)\)", (VENDOR / "katex" / "katex.min.css").read_text()))
    assert named == {f"fonts/{path.name}" for path in (VENDOR / "katex" / "fonts").iterdir()}


def test_the_traces_know_how_a_method_chooses() -> None:
    """As its ``Method`` says: a search, in which scopes; drawing by tilted rewards; rejecting."""
    told = {method["name"]: method for method in json.loads(describe_methods())["methods"]}
    facts = {name: (of["search_scopes"], of["draws_tilted"], of["can_reject"]) for name, of in told.items()}
    assert facts["gsi"] == (["responses"], True, True)
    assert facts["beam-search"] == (["steps", "responses"], False, False)
    assert facts["spec-reason"] == ([], False, True)


def test_the_forms_know_every_parameter_that_a_method_reads() -> None:
    """With its range and its default, from the schema of a job."""
    told = json.loads(describe_methods())
    assert {name for method in told["methods"] for name in method["parameters"]} == set(told["parameters"])
    assert set(SHARED) <= set(told["parameters"])
    assert told["parameters"]["n"] == {
        "type": "integer",
        "least": 1,
        "most": 256,
        "default": 16,
        "description": "Number of candidates of a step, or of responses.",
        "is_optional": False,
    }
    assert told["parameters"]["weighting"]["default"] == "binary=0.7"
