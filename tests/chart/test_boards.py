"""The boards of releases: the same ones, or each release's own."""

import json
import re
from typing import Any

from monitoring.boards import BOARDS
from tests.chart.rendering import NAMESPACE, RELEASE, Object, objects, objects_with, of_kind

COMPONENT = "app.kubernetes.io/component"
LONGEST_UID = 40  # that Grafana takes


def boards(found: list[Object]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in texts(found)]


def texts(found: list[Object]) -> list[str]:
    maps = of_kind(found, "ConfigMap")
    data = [one["data"] for one in maps if one["metadata"].get("labels", {}).get(COMPONENT) == "monitoring"]
    return [text for files in data for name, text in files.items() if name.endswith(".json")]


def uids(found: list[Object]) -> set[str]:
    return {board["uid"] for board in boards(found)}


def test_the_boards_of_a_release_can_be_its_own() -> None:
    """Another release's have other UIDs and titles, and links lead to boards of the same release."""
    own, other = boards(objects("everything-else")), objects("everything-else", release="other")
    assert len(own) == len(BOARDS)
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


def linked(**addresses: str) -> list[Object]:
    """Return the objects with the addresses of the web page and of the runbook, by default none."""
    of_rules = {"runbookUrl": addresses.get("runbook", "")}
    of_boards = {"enabled": True, "gatewayUrl": addresses.get("gateway", ""), "perRelease": True}
    return objects_with("everything-else", {"monitoring": {"dashboards": of_boards, "prometheusRule": of_rules}})


def test_boards_lead_to_the_web_page_and_the_runbook_where_their_addresses_are_known() -> None:
    """As links of the board and of panels; what is drawn stays as it is, and a path and a slash are right."""
    plain = {board["title"]: board for board in boards(linked())}
    runbook = "https://git.example/runbook.md"
    for board in boards(linked(gateway="https://gsi.example/app/", runbook=runbook)):
        others = [link for link in board["links"] if link["url"].startswith("/d/")]
        urls = {link["url"] for link in board["links"]} - {link["url"] for link in others}
        assert urls == {"https://gsi.example/app/#/queue", "https://gsi.example/app/#/jobs", runbook}
        assert others == plain[board["title"]]["links"]
        for panel, before in zip(board["panels"], plain[board["title"]]["panels"], strict=True):
            assert panel.get("targets") == before.get("targets")
            assert panel["id"] == before["id"]


def test_a_panel_leads_to_its_jobs_and_to_its_alert() -> None:
    """Dead letters: the dead jobs, whose traces the page has, and what the runbook says about them."""
    found = boards(linked(gateway="https://gsi.example", runbook="https://git.example/runbook.md"))
    [panel] = [panel for board in found for panel in board["panels"] if panel["title"] == "Dead letters"]
    [to_jobs] = panel["fieldConfig"]["defaults"]["links"]
    assert (to_jobs["url"], to_jobs["targetBlank"]) == ("https://gsi.example/#/jobs?state=DEAD", True)
    assert [link["url"] for link in panel["links"]] == ["https://git.example/runbook.md#gsideadjobs"]
    assert panel["fieldConfig"]["defaults"]["unit"] == "suffix: jobs"


def test_an_address_that_is_not_known_leaves_no_link() -> None:
    """Each of the two alone, and neither."""
    assert not [text for text in texts(linked()) if re.search(r"_URL|https?://", text)]
    for name, other in (("gateway", "runbook"), ("runbook", "gateway")):
        for text in texts(linked(**{name: f"https://{name}.example"})):
            assert f"https://{name}.example" in text
            assert not re.search(rf"_URL|{other}\.example|href=\"\"", text)
