"""The stand-in for a node (``kubelet``) does what it says: what runs on it would run in a cluster."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chart.kubelet import Node, may_be_written, watched
from tests.chart.rendering import NAMESPACE, ROOT, objects

MOUNTS = {"/app": ROOT}


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path, objects("cpu"), {})


@pytest.mark.parametrize("ending", ["", f".{NAMESPACE}", f".{NAMESPACE}.svc", f".{NAMESPACE}.svc.cluster.local"])
def test_a_service_is_found_by_each_of_its_names(node: Node, ending: str) -> None:
    """With a port behind it, in a URL too; what only begins or ends like it is another name."""
    address = node.addresses["redis"]
    assert node.here(f"redis://gsi-redis{ending}:6379/0", "draft", MOUNTS) == f"redis://{address}:6379/0"
    for other in (f"my-gsi-redis{ending}:6379", f"gsi-redis-2{ending}:6379"):
        assert node.here(other, "draft", MOUNTS) == other


def test_every_address_is_the_pods_own(node: Node) -> None:
    """Two pods listen on one port, as in a cluster."""
    assert node.here("0.0.0.0:50051", "draft", MOUNTS) == f"{node.addresses['draft']}:50051"
    assert len(set(node.addresses.values())) == len(node.addresses)


def test_paths_are_those_of_the_mounts(node: Node, tmp_path: Path) -> None:
    """The innermost one's, and whole parts of a path."""
    mounts = {"/app": ROOT, "/secrets": tmp_path / "a", "/secrets/tls": tmp_path / "b"}
    assert node.here("/app/models/draft", "draft", mounts) == str(ROOT / "models" / "draft")
    assert node.here("cat /secrets/tls/ca.crt", "draft", mounts) == f"cat {tmp_path}/b/ca.crt"
    assert node.here("/apple /x/app", "draft", mounts) == "/apple /x/app"


def test_what_a_process_writes_is_noted(tmp_path: Path) -> None:
    """Files that it opens to write, folders that it makes and what it moves; not what it reads."""
    (tmp_path / "read").touch()
    script = "import os; open('read'); open('written', 'w'); os.mkdir('made'); os.rename('made', 'moved')"
    notes = tmp_path / "notes"
    subprocess.run([sys.executable, "-c", script], env=watched(notes), cwd=tmp_path, check=True)
    assert notes.read_text().split() == [str(tmp_path / name) for name in ("written", "made", "made")]


def test_the_innermost_mount_says_whether_a_path_can_be_written() -> None:
    """Without a mount it is the root file system, which cannot."""
    mounts = {"/tmp": True, "/tmp/secret": False}
    found = {path: may_be_written(path, mounts) for path in ("/tmp/a", "/tmp/secret/a", "/tmpfile", "/root/.cache")}
    assert found == {"/tmp/a": True, "/tmp/secret/a": False, "/tmpfile": False, "/root/.cache": False}
