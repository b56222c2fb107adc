"""Which tests of ``make test`` share a process of pytest-xdist, and which of them start first.

A process takes a file at a time. Files that use the shared model services are one piece of work, so that these start
once. The longest pieces come first: what starts last is short, and no process waits long for the other.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

SHARE_MODEL_SERVICES = (
    "tests/evaluation/test_eval.py",
    "tests/examples/test_examples.py",
    "tests/services/test_authors_code.py",
    "tests/services/test_background_tasks.py",
    "tests/services/test_check.py",
    "tests/services/test_compatibility.py",
    "tests/services/test_lookahead.py",
    "tests/services/test_methods.py",
    "tests/services/test_outcome_reward.py",
    "tests/services/test_prm_room.py",
    "tests/services/test_redis_that_cannot_write.py",
    "tests/services/test_remote_services.py",
    "tests/services/test_retries.py",
    "tests/services/test_system.py",
    "tests/services/test_thinking.py",
)
FIRST = (
    *SHARE_MODEL_SERVICES,
    "tests/jobs/test_queue_machine.py",
    "tests/chaos/test_chaos.py",
    "tests/gateway/test_batches.py",
    "tests/services/test_local_stack.py",
    "tests/algorithm/test_paper.py",
    "tests/services/",
    "tests/jobs/",
)


class FileByFile(LoadFileScheduling):
    """Gives a process a file, or all the files that share model services."""

    def _split_scope(self, nodeid: str) -> str:
        return "model services" if nodeid.startswith(SHARE_MODEL_SERVICES) else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileByFile | None:
    return FileByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((i for i, path in enumerate(FIRST) if item.nodeid.startswith(path)), len(FIRST)))
