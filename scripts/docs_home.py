"""The first page of the documentation site: what GSI is, what was measured, and a way in for each reader.

Its sentences about the method and its figures are those of README.md, which is the one place that has them.
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]

# By reader: what the reader wants, and the pages that answer it.
READERS = {
    "Try it": [("Two commands", "start.md"), ("The web page", "docs/web.md"), ("Read a trace", "docs/trace.md")],
    "Build on it": [
        ("OpenAI's API", "docs/gateway.md"),
        ("Python SDK", "docs/sdk.md"),
        ("Examples", "examples/README.md"),
    ],
    "Bring your models": [
        ("Your own models", "docs/own-models.md"),
        ("GPUs", "docs/gpus.md"),
        ("Servers that run already", "docs/remote.md"),
    ],
    "Operate it": [
        ("The chart", "helm/README.md"),
        ("Guides", "docs/deploy/README.md"),
        ("Sizing", "docs/sizing.md"),
        ("Runbook", "docs/runbook.md"),
    ],
    "Study the method": [
        ("Methods", "docs/methods.md"),
        ("The algorithm", "docs/algorithm.md"),
        ("Results", "benchmarks/RESULTS.md"),
    ],
    "Change it": [
        ("Contributing", "CONTRIBUTING.md"),
        ("The life of one job", "docs/lifecycle.md"),
        ("Decisions", "docs/decisions/index.md"),
    ],
}
STEPS = (
    ("draft", "The draft proposes", "A small model samples n candidates for the next step."),
    (
        "target",
        "The target and the PRM score",
        "Each candidate gets a likelihood and a reward, as soon as it is finished.",
    ),
    ("kept", "One candidate is selected", "If it passes, it is kept. Otherwise the target writes the step."),
)


def home_page() -> str:
    """Return the page as Markdown with HTML. Raises StopIteration if README.md has lost its first paragraphs."""
    paragraphs = (ROOT / "README.md").read_text(encoding="utf-8").split("\n\n")
    tagline = next(each for each in paragraphs if each.startswith("**")).strip("*")
    explanation = next(each for each in paragraphs if each.startswith("Guided Speculative Inference (GSI)"))
    measured = next(each for each in paragraphs if each.startswith("> **"))
    where = paragraphs[paragraphs.index(measured) - 1]
    first, second = tagline.split(". ", 1)
    parts = [
        "---\ntitle: GSI\nhide: [navigation, toc]\n---\n",
        f'<div class="home" markdown>\n\n# {first}.<br>{second}\n',
        f'<div class="home-lead" markdown>\n\n{explanation}\n\n</div>\n',
        "[Start](start.md){ .md-button .md-button--primary } [How an answer grows](docs/trace.md){ .md-button }\n",
        f'<div class="home-steps">\n{_steps()}\n</div>\n',
        '<div class="home-measured" markdown>\n',
        f"{where}\n\n{measured.replace('> ', '')}\n\n{_pictures('gain', 'svg')}\n",
        "</div>\n",
        "## An answer, step by step\n",
        f"{_pictures('trace', 'png')}\n",
        f'<div class="home-readers" markdown>\n\n{_readers()}\n\n</div>\n',
        "</div>\n",
    ]
    return "\n".join(parts)


def _steps() -> str:
    return "\n".join(f'<div class="home-{kind}"><b>{title}</b>{text}</div>' for kind, title, text in STEPS)


def _pictures(name: str, suffix: str) -> str:
    """Return both pictures of README.md of a name; the theme shows the one of the scheme that the reader chose."""
    light = f"{name}-light" if suffix == "svg" else name
    described = {
        "gain": "Right answers and seconds an answer of GSI, of the target alone, and of soft best-of-n on the target",
        "trace": "A trace: the draft's step is crossed out, and the target's follows, with the candidates of both",
    }[name]
    sources = (f"{light}.{suffix}#only-light", f"{name}-dark.{suffix}#only-dark")
    return "\n".join(f'<img src="docs/pictures/{source}" alt="{described}">' for source in sources)


def _readers() -> str:
    cards = []
    for title, pages in READERS.items():
        links = "\n".join(f"- [{label}]({page})" for label, page in pages)
        cards.append(f'<div class="home-reader" markdown>\n\n### {title}\n\n{links}\n\n</div>')
    return "\n\n".join(cards)
