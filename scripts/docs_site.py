"""Lay out the documentation site in ``.site``: ``python scripts/docs_site.py``, then ``mkdocs build`` (``make docs``).

A document keeps its path in the repository, so its links hold. A linked file that is no document becomes a page of its
own, with its text; a linked folder becomes a list of its documents. References are generated (``docs_reference.py``).
"""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

import docs_home
import docs_reference
import yaml

ROOT = Path(__file__).parents[1]
SITE = ROOT / ".site"
PAGES = SITE / "pages"
MERMAID = "assets/mermaid.min.js"
ICON = ROOT / "services" / "gateway" / "web" / "page" / "icon.svg"
LINK = re.compile(r"(?<=\]\()([^)\s#]*)(#[^)\s]*)?(?=\))")
IMAGE = re.compile(r'(?:src|srcset)="([^":]+)"')
PICTURE = re.compile(
    r'<picture>\s*<source media="[^"]*dark[^"]*" srcset="([^"]+)">\s*(<img src=")([^"]+)("[^>]*>)\s*</picture>'
)
FENCE = re.compile(r"^(```|~~~).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
STATIC = {".png", ".svg", ".jpg"}
LANGUAGES = {".py": "python", ".mjs": "javascript", ".yaml": "yaml", ".json": "json", ".toml": "toml", ".sh": "sh"}

# By reader. A document that is not named here is found under "More".
NAVIGATION = {
    "Users": {
        "Start": "start.md",
        "documents": [
            "docs/web.md",
            "docs/trace.md",
            "docs/gateway.md",
            "docs/choosing.md",
            "docs/methods.md",
            "docs/algorithm.md",
            "docs/evaluation.md",
            "docs/glossary.md",
        ],
    },
    "Developers": {"documents": ["docs/sdk.md", "docs/jobs.md", "examples/README.md", "docs/own-models.md"]},
    "Operators": {
        "Chart": "helm/README.md",
        "documents": [
            "docs/settings.md",
            "docs/images.md",
            "docs/gpus.md",
            "docs/deploy/README.md",
            "docs/deploy/gke.md",
            "docs/deploy/eks.md",
            "docs/deploy/openshift.md",
            "docs/deploy/shared-gpus.md",
            "docs/deploy/air-gapped.md",
            "docs/deploy/spot.md",
            "docs/deploy/argo-cd.md",
            "docs/deploy/several-trios.md",
            "docs/sizing.md",
            "docs/scaling.md",
            "docs/performance.md",
            "docs/redis.md",
            "docs/security.md",
            "docs/remote.md",
            "docs/reward-models.md",
            "docs/observability.md",
            "docs/metrics.md",
            "docs/dashboards.md",
            "docs/runbook.md",
            "docs/slo.md",
            "docs/upgrading.md",
            "docs/promises.md",
        ],
    },
    "Contributors": {
        "documents": [
            "CONTRIBUTING.md",
            "docs/lifecycle.md",
            "docs/releasing.md",
            "SECURITY.md",
            "CODE_OF_CONDUCT.md",
        ]
    },
    "Reference": {
        "Python SDK": "reference/sdk.md",
        "Command line": "reference/cli.md",
        "gRPC": "reference/grpc.md",
        "Job": "docs/job.schema.json.md",
        "Step": "docs/step.schema.json.md",
        "Result": "docs/result.schema.json.md",
    },
}
ALWAYS = ("README.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "benchmarks/RESULTS.md")
ALWAYS += ("docs/job.schema.json", "docs/step.schema.json", "docs/result.schema.json")


def write_pages() -> None:
    """Write every document, and whatever a document links, into the folder of pages."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    waiting = [*ALWAYS, *(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))]
    waiting += [place for _, places in _places() for place in places if (ROOT / place).exists()]
    (PAGES / "index.md").write_text(docs_home.home_page(), encoding="utf-8")
    written: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in written and (ROOT / name).exists():
            written.add(name)
            waiting += _write_page(name)


def _write_page(name: str) -> list[str]:
    """Write the page of a file or folder of the repository; return what it links."""
    source, page = ROOT / name, PAGES / page_of(name)
    page.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix in STATIC:
        shutil.copyfile(source, page)
        return []
    if source.is_dir():
        page.write_text(_list_folder(source), encoding="utf-8")
        return [path.relative_to(ROOT).as_posix() for path in source.glob("*.md")]
    text = source.read_text(encoding="utf-8")
    if source.suffix != ".md":
        page.write_text(_show_file(name, text), encoding="utf-8")
        return []
    page.write_text(lead_to_pages(name, text), encoding="utf-8")
    return list(links_of(name, text))


def page_of(name: str) -> str:
    """Return where a file or folder of the repository is in the site."""
    path = ROOT / name
    if name == "README.md":
        return "start.md"  # the first page is docs_home's
    if path.is_dir():
        readme = f"{name}/README.md"
        return readme if (ROOT / readme).exists() else f"{name}/index.md"
    shown = name.removeprefix(".")  # MkDocs leaves out what is hidden
    return shown if path.suffix in {".md", *STATIC} else f"{shown}.md"


def links_of(name: str, text: str) -> Iterator[str]:
    """Return the files and folders that a document links, by their paths in the repository."""
    prose = FENCE.sub("", text)
    for target in [*(found[1] for found in LINK.finditer(prose)), *IMAGE.findall(prose)]:
        if target and "://" not in target and not target.startswith("mailto:"):
            yield _resolve(name, target)


def lead_to_pages(name: str, text: str) -> str:
    """Return a document whose links lead to pages of the site; what is in code blocks stays.

    Of a picture with a dark form, the theme shows the form of the scheme that the reader chose.
    """

    def lead(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if not target or "://" in target or target.startswith("mailto:"):
            return found[0]
        return _relative(name, page_of(_resolve(name, target))) + anchor

    ends = [0, *(end for fence in FENCE.finditer(text) for end in fence.span()), len(text)]
    parts = [text[start:end] for start, end in pairwise(ends)]
    parts[::2] = [PICTURE.sub(r"\2\3#only-light\4 \2\1#only-dark\4", LINK.sub(lead, part)) for part in parts[::2]]
    if "```mermaid" in text:
        parts.append(f'\n<script src="{_relative(name, MERMAID)}"></script>\n')
    return "".join(parts)


def _resolve(name: str, target: str) -> str:
    return normpath(str(PurePosixPath(name).parent / target))


def _relative(name: str, target: str) -> str:
    return relpath(target, str(PurePosixPath(name).parent))


def _list_folder(folder: Path) -> str:
    titles = {path.name: _title(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.md"))}
    rows = "\n".join(f"- [{title}]({name})" for name, title in titles.items())
    return f"# {folder.name.capitalize()}\n\n{rows}\n"


def _title(text: str) -> str:
    return next((line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")), "Untitled")


def _show_file(name: str, text: str) -> str:
    language = LANGUAGES.get(PurePosixPath(name).suffix, "text")
    wide = "---\nhide: [navigation, toc]\n---\n\n"  # room for lines of 120 characters
    return f"{wide}# {name}\n\n~~~~~~ {language}\n{text.rstrip()}\n~~~~~~\n"


def _places() -> Iterator[tuple[str, list[str]]]:
    for reader, group in NAVIGATION.items():
        listed = [place for title, place in group.items() if isinstance(place, str)]
        yield reader, [*listed, *group.get("documents", [])]


def navigation() -> list[dict[str, object]]:
    """Return mkdocs' navigation: by reader, decisions, and documents that nobody has placed."""
    shown: list[dict[str, object]] = [{"Home": "index.md"}]
    placed = {place for _, places in _places() for place in places}
    for reader, group in NAVIGATION.items():
        entries: list[object] = []
        for title, place in group.items():
            if isinstance(place, str):
                entries.append({title: place})
            else:
                entries += [document for document in place if (PAGES / document).exists()]
        shown.append({reader: entries})
    documents = sorted(path.relative_to(PAGES).as_posix() for path in (PAGES / "docs").glob("*.md"))
    more = [name for name in documents if name not in placed and not name.endswith(".schema.json.md")]
    decisions = [path.relative_to(PAGES).as_posix() for path in sorted((PAGES / "docs/decisions").glob("[0-9]*.md"))]
    shown.append({"Decisions": ["docs/decisions/index.md", *decisions]})
    others = [
        name
        for name in ALWAYS
        if name.endswith(".md") and name not in {*placed, "README.md"} and (PAGES / name).exists()
    ]
    return [*shown, {"More": [*more, *others]}]


def main() -> None:
    write_pages()
    _write_page("docs/decisions")
    docs_reference.write(PAGES / "reference")
    shutil.copytree(ROOT / ".venv-docs" / "assets", PAGES / "assets", dirs_exist_ok=True)
    shutil.copyfile(ROOT / "docs" / "site.css", PAGES / "assets" / "site.css")
    shutil.copyfile(ICON, PAGES / "assets" / ICON.name)
    settings = yaml.dump({"INHERIT": "../mkdocs.yml", "docs_dir": "pages", "site_dir": "html", "nav": navigation()})
    (SITE / "mkdocs.yml").write_text(settings, encoding="utf-8")


if __name__ == "__main__":
    main()
