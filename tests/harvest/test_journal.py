"""What was done stays done, whenever a run was killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.harvest.journal import Journal, Store, alone_in


def test_a_journal_gives_back_the_latest_facts_and_passes_over_a_line_that_was_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "state" / "a.jsonl"
    with Journal(file) as journal:
        journal.add({"key": "x", "n": 1})
        journal.add({"key": "x", "n": 2})
        journal.add({"key": "not for long"}, lasting=False)
        assert journal.get("not for long")
    with file.open("ab") as opened:
        opened.write(b'{"key": "y", "n')
    for _ in range(2):
        with Journal(file) as journal:
            assert journal.get("x") == {"key": "x", "n": 2}
            assert journal.get("y") is None
            assert journal.get("not for long") is None
            journal.add({"key": "z"})
    with Journal(file) as journal:
        assert journal.get("z")


def test_a_picture_is_kept_once_by_its_content(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.add(b"bytes")
    assert store.add(b"bytes") == digest
    assert digest in store
    assert "" not in store
    assert store.path(digest).read_bytes() == b"bytes"
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 1


def test_a_second_harvest_is_kept_out(tmp_path: Path) -> None:
    with alone_in(tmp_path), pytest.raises(BlockingIOError), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass
