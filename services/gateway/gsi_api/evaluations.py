"""The folders that ``gsi eval`` wrote: listed, read, and their plots. Nothing outside the configured folder is read.

A name is one word of few characters, which ``..`` and absolute paths are not; and a file counts only if it is where its
name says, without a link on the way.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.gateway.errors import ApiError

NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
IMAGE = re.compile(r"[A-Za-z0-9_-]{1,100}\.png")
REPORT, RUN = "report.json", "run.json"
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
MAX_LISTED = 200
MAX_REPORT_BYTES = 32 * 2**20
MAX_IMAGE_BYTES = 16 * 2**20
SHOWN_CASES = 20  # of lists that have a line for each job


class Evaluations:
    """The evaluations of one folder. None: there are none. Its methods read files: call them on a thread."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    @property
    def is_on(self) -> bool:
        return self._folder is not None

    def list(self) -> dict[str, Any]:
        """Return the evaluations, the newest first."""
        if self._folder is None or not self._folder.is_dir():
            return {"evaluations": []}
        names = [path.name for path in self._folder.iterdir() if NAME.fullmatch(path.name)]
        found = [each for each in map(self._summarize, names) if each is not None]
        newest = sorted(found, key=lambda each: (each["date"] or "", each["name"]), reverse=True)
        return {"evaluations": newest[:MAX_LISTED]}

    def read(self, name: str) -> dict[str, Any]:
        """Return an evaluation: its settings, its rows, its pairs, the names of its plots. Raises ApiError 404."""
        run, report = self._read_json(name, RUN), self._read_json(name, REPORT)
        if run is None and report is None:
            raise _not_found(name)
        report = report or {}
        cases = {each: _first(report.get(each)) for each in ("failures", "disagreements")}
        told = {each: report.get(each) or [] for each in ("rows", "comparisons", "strata")}
        return {
            "name": name,
            "plan": (run or {}).get("plan"),
            "evaluation": report.get("evaluation") or (run or {}).get("evaluation"),
            "models": report.get("models") or {},
            "is_finished": bool(report),
            **told,
            **cases,
            "images": self._images(name),
        }

    def read_image(self, name: str, image: str) -> bytes:
        """Return the bytes of a plot. Raises ApiError 404 for any file that is no PNG image of the evaluation."""
        path = self._find(name, image) if IMAGE.fullmatch(image) else None
        if path is None or path.stat().st_size > MAX_IMAGE_BYTES:
            raise _not_found(f"{name}/{image}")
        content = path.read_bytes()
        if not content.startswith(PNG_HEAD):
            raise _not_found(f"{name}/{image}")
        return content

    def _summarize(self, name: str) -> dict[str, Any] | None:
        run = self._read_json(name, RUN)
        if run is None:
            return None
        plan, evaluation = run.get("plan") or {}, run.get("evaluation") or {}
        return {
            "name": name,
            "dataset": plan.get("dataset"),
            "methods": plan.get("methods") or [],
            "ns": plan.get("ns") or [],
            "seeds": plan.get("seeds"),
            "problems": evaluation.get("problems"),
            "date": evaluation.get("date"),
            "is_finished": self._find(name, REPORT) is not None,
        }

    def _images(self, name: str) -> Sequence[str]:
        folder = self._folder / name if self._folder and NAME.fullmatch(name) else None
        names = sorted(path.name for path in folder.glob("*.png")) if folder else []
        return [image for image in names if IMAGE.fullmatch(image) and self._find(name, image)][:SHOWN_CASES]

    def _read_json(self, name: str, file: str) -> dict[str, Any] | None:
        path = self._find(name, file)
        if path is None or path.stat().st_size > MAX_REPORT_BYTES:
            return None
        try:
            found = json.loads(path.read_bytes())
        except ValueError:  # is being written, or was written by hand
            return None
        return found if isinstance(found, dict) else None

    def _find(self, name: str, file: str) -> Path | None:
        """Return the path of an evaluation's file, if it is a file and no link leads to it below the folder."""
        if self._folder is None or not NAME.fullmatch(name):
            return None
        try:
            place = self._folder.resolve(strict=True) / name / file
            return place if place.is_file() and place.resolve(strict=True) == place else None
        except OSError:
            return None


def _first(cases: Any) -> Mapping[str, Any]:
    listed = cases if isinstance(cases, list) else []
    return {"number": len(listed), "first": listed[:SHOWN_CASES]}


def _not_found(name: str) -> ApiError:
    return ApiError(404, f"name: no evaluation {name[:100]}", param="name", code="evaluation_not_found")
