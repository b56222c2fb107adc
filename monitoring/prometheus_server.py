"""A real Prometheus for a few minutes: it scrapes the given targets every second and answers queries."""

import json
import math
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gsi.errors import MisconfiguredError
from gsi.local.embedded_redis import free_port, stop_child
from gsi.runtime.child import child_command

BINARY = Path(__file__).parents[1] / ".tools" / "bin" / "prometheus"
SCRAPE_SECONDS = 1
START_SECONDS = 20.0
STOP_SECONDS = 10.0
ANSWER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a process serves its metrics (host:port), and the labels that scraping adds."""

    address: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One series of an answer. ``points`` are (seconds since 1970, value); an instant query has one point."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def has_data(self) -> bool:
        """Tell whether a point can be drawn: NaN and infinity cannot."""
        return any(math.isfinite(value) for _, value in self.points)


class Prometheus:
    """The HTTP API of a running server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expr: str, when: float) -> list[Answer]:
        """Return an expression's series at a time. Raises ValueError with Prometheus's message if it is invalid."""
        return _read_answers(self._get("query", query=expr, time=when))

    def query_range(self, expr: str, start: float, end: float, step_seconds: float) -> list[Answer]:
        """Return an expression's series from start to end. Raises ValueError as ``query`` does."""
        return _read_answers(self._get("query_range", query=expr, start=start, end=end, step=step_seconds))

    def list_label_values(self, label: str, selector: str) -> list[str]:
        """Return all values of a label in a selector's series."""
        return list(self._get(f"label/{label}/values", **{"match[]": selector}))

    def _get(self, path: str, **parameters: Any) -> Any:
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from None


@contextmanager
def run_prometheus(folder: Path, targets: Sequence[Target], rules: str) -> Iterator[Prometheus]:
    """Run a server that scrapes ``targets`` and evaluates ``rules`` (the text of a rule file), until the block ends.

    The server writes its files to ``folder``, which must exist. Raises MisconfiguredError if the server does not start.
    """
    (folder / "rules.yaml").write_text(rules, encoding="utf-8")
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(_configure(targets)), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        str(BINARY),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(child_command(command), stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_until_ready(process, url, folder / "prometheus.log")
        yield Prometheus(url)
    finally:
        stop_child(process, STOP_SECONDS)


def _configure(targets: Sequence[Target]) -> dict[str, Any]:
    every = f"{SCRAPE_SECONDS}s"
    job = {
        "job_name": "gsi",
        "honor_labels": True,  # as in the chart's PodMonitor: some of our series have a label `role` of their own
        "static_configs": [{"targets": [target.address], "labels": dict(target.labels)} for target in targets],
    }
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job],
    }


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                tail = " | ".join(log.read_text(encoding="utf-8").splitlines()[-3:])
                raise MisconfiguredError(f"prometheus did not start: {tail}") from None
            time.sleep(0.1)


def _read_answers(data: Mapping[str, Any]) -> list[Answer]:
    if data["resultType"] == "scalar":
        return [Answer({}, [_read_point(data["result"])])]
    return [
        Answer(series["metric"], [_read_point(point) for point in series.get("values") or [series["value"]]])
        for series in data["result"]
    ]


def _read_point(point: Sequence[Any]) -> tuple[float, float]:
    return float(point[0]), float(point[1])
