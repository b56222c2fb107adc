"""README's figures are those of the recording beside them, and the picture shows the same run."""

import re
from pathlib import Path
from runpy import run_path
from typing import Any

from gsi.local.demo import describe_gain

ROOT = Path(__file__).parents[1]
DRAWN = run_path(str(ROOT / "scripts" / "draw_gain.py"))
RECORDING = ROOT / "docs" / "pictures" / "demo.svg"
WAYS = [
    {"name": "GSI", "correct": 7, "problems": 8, "seconds_per_answer": 0.5},
    {"name": "the target alone", "correct": 5, "problems": 8, "seconds_per_answer": 1.0},
    {"name": "soft best-of-n on the target", "correct": 6, "problems": 8, "seconds_per_answer": 2.0},
]


def test_readme_says_what_the_recording_shows() -> None:
    """One run: the quoted sentence is the last one of the recording."""
    (quoted,) = re.findall(r"^> \*\*(.+?)\*\*$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    sentence = DRAWN["find_sentence"](RECORDING.read_text(encoding="utf-8"))
    assert re.sub(r"\s+>? ?", " ", quoted) == sentence


def test_the_picture_is_drawn_from_the_sentence_of_the_demo() -> None:
    """As the demo writes it; each way's place, right answers and time."""
    num_problems, ways = DRAWN["read_ways"](describe_gain(WAYS))
    assert num_problems == 8
    assert [(way.name, way.num_right, way.time) for way in ways] == [
        ("GSI", 7, 1.0),
        ("the target alone", 5, 2.0),
        ("soft best-of-n on the target", 6, 4.0),
    ]


def test_the_picture_is_current(tmp_path: Path) -> None:
    """The bars of the committed picture have the lengths of the recording's figures."""
    compared: Any = DRAWN["read_ways"](DRAWN["find_sentence"](RECORDING.read_text(encoding="utf-8")))
    DRAWN["draw"](*compared, "light").savefig(tmp_path / "now.svg", transparent=True, metadata={"Date": None})
    now, committed = ((path).read_text() for path in (tmp_path / "now.svg", RECORDING.parent / "gain-light.svg"))
    assert bars_of(now) == bars_of(committed)
    assert len(bars_of(now)) == 6


def bars_of(picture: str) -> list[str]:
    """Return the outlines of the filled bars, which no letter has a part in."""
    return re.findall(r'<path d="([^"]+)" clip-path="[^"]+" style="fill: #[0-9a-f]+"/>', picture)
