"""A picture that ends the process that looks at it ends nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal

from services.core.errors import Rejected
from trainer.harvest.workers import Workers


def looked_at(item: int) -> int:
    """Runs in a worker: some items are rejected, one kills whoever looks at it."""
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 5:
        raise Rejected("corrupt", "number five")
    return item * 10


def test_a_worker_that_is_killed_costs_the_one_item_that_killed_it() -> None:
    with Workers(2) as workers:
        found = dict(workers.each(looked_at, range(8)))
    assert {item: answer for item, answer in found.items() if isinstance(answer, int)} == {
        item: item * 10 for item in (0, 1, 2, 4, 6, 7)
    }
    assert isinstance(found[3], Rejected) and found[3].code == "decoder_crashed"
    assert isinstance(found[5], Rejected) and found[5].message == "number five"


def test_no_process_is_started_for_nothing() -> None:
    before = multiprocessing.active_children()  # other tests of this process may have left some to end
    with Workers(1) as workers:
        assert list(workers.each(looked_at, [])) == []
        assert [each for each in multiprocessing.active_children() if each not in before] == []
