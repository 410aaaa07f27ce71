"""How tests are dealt out to processes: files that share a server to one process together, the longest first.

In: the files of a run with `-n`. Out: xdist's own dealing by file, but that each row of `TURNS` counts as one file, and
that rows come in this order before all others. Servers are started once a process, at first use: a row that was torn
apart would start its server twice. A long file that came last would leave the other process without work.
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

TURNS: tuple[tuple[str, ...], ...] = (
    ("tests/cli/test_on_stack.py", "tests/cli/test_scrape.py"),  # the whole stack
    ("tests/chaos/test_the_promise.py",),  # a stack that is broken on purpose
    ("tests/e2e/test_demo.py",),  # a stack as a newcomer starts it
    ("tests/clients/test_models_contract.py", "tests/stream/test_rejudge.py"),  # the model server
    (
        "tests/promotion/test_promoter.py",
        "tests/promotion/test_commands.py",
        "tests/promotion/test_shadowing.py",
        "tests/promotion/test_watcher.py",
    ),  # a model server whose models are replaced
    ("tests/learning/test_annotate.py",),
    ("tests/local/test_stack.py",),
    ("tests/models/test_package.py",),
    ("tests/models/test_evaluate_web_iml.py",),
    ("tests/models/test_evaluate_constrained.py",),
    ("tests/models/test_handlers.py",),
    ("tests/models/test_prior.py",),
    ("tests/models/test_processes.py",),
    ("tests/models/test_fit.py",),
    ("tests/learning/test_erasure.py",),
    ("tests/local/test_torchserve.py",),
    ("tests/clients/test_embedding.py",),
)
PLACES = {file: place for place, row in enumerate(TURNS) for file in row}


def file_of(nodeid: str) -> str:
    """The file of a test, from the folder of the project on."""
    return nodeid.split("::", 1)[0]


def turn_of(nodeid: str) -> str:
    """What a test is dealt out with: its row's first file, or its own file."""
    file = file_of(nodeid)
    return TURNS[PLACES[file]][0] if file in PLACES else file


class ByTurn(LoadFileScheduling):  # type: ignore[misc]
    """xdist's dealing by file, with rows of files as one."""

    def _split_scope(self, nodeid: str) -> str:
        return turn_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByTurn | None:
    """For `--dist loadfile`. The order is that of the tests, not that of how many a file has."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False
    return ByTurn(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The rows first, where processes share the tests; one process alone keeps the usual order."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: PLACES.get(file_of(item.nodeid), len(TURNS)))
