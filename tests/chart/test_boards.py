"""The boards of releases: the same ones, or each release's own."""

import json
from typing import Any

from tests.chart.rendering import NAMESPACE, RELEASE, Object, objects, of_kind

LONGEST_UID = 40  # that Grafana takes


def boards(found: list[Object]) -> list[dict[str, Any]]:
    data = [one["data"] for one in of_kind(found, "ConfigMap")]
    return [json.loads(text) for files in data for name, text in files.items() if name.endswith(".json")]


def uids(found: list[Object]) -> set[str]:
    return {board["uid"] for board in boards(found)}


def test_the_boards_of_a_release_can_be_its_own() -> None:
    """Another release's have other UIDs and titles, and links lead to boards of the same release."""
    own, other = boards(objects("everything-else")), objects("everything-else", release="other")
    assert len(own) == 4
    assert not uids(objects("everything-else")) & uids(other)
    known = {board["uid"] for board in own}
    for board in own:
        assert len(board["uid"]) <= LONGEST_UID
        assert f"{NAMESPACE}-{RELEASE} /" in board["title"]
        assert {link["url"] for link in board["links"]} == {f"/d/{uid}" for uid in known - {board["uid"]}}


def test_without_that_every_release_brings_the_same_boards() -> None:
    """Whose variables choose the release: one release that brings them is enough."""
    assert uids(objects("everything")) == uids(objects("everything", release="other"))
    assert "gsi-queue" in uids(objects("everything"))
