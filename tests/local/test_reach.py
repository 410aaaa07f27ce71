"""Letting the database's user through folders that are not its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from services.local.component import leashed
from services.local.reach import let_through, may_enter, unprivileged_user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root lets others through")
NOBODY = 65534


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    folder = tmp_path / "private" / "data"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o700)
    folder.chmod(0o700)
    return folder


def can_list(folder: Path, uid: int, gid: int) -> bool:
    return (
        subprocess.run(leashed(["ls", str(folder)], f"{uid}:{gid}"), check=False, capture_output=True).returncode == 0
    )


def can_pass(folder: Path, uid: int, gid: int) -> bool:
    return subprocess.run(leashed(["cat", f"{folder}/open"], f"{uid}:{gid}"), check=False).returncode == 0


def test_the_user_passes_through_but_sees_nothing_and_nobody_else_gains(closed: Path) -> None:
    user = unprivileged_user()
    assert user is not None
    (closed / "open").write_text("")
    assert not can_pass(closed, user.pw_uid, user.pw_gid)
    let_through(closed, user.pw_uid, user.pw_gid)
    assert can_pass(closed, user.pw_uid, user.pw_gid)
    assert not can_list(closed, user.pw_uid, user.pw_gid)
    assert not can_pass(closed, NOBODY, NOBODY)


def test_what_we_think_of_a_folder_is_what_the_kernel_thinks(closed: Path) -> None:
    user = unprivileged_user()
    assert user is not None
    for mode, enters in ((0o700, False), (0o701, True), (0o710, False), (0o755, True)):
        closed.parent.chmod(mode)
        assert may_enter(closed.parent, user.pw_uid, user.pw_gid) is enters


def test_doing_it_twice_changes_nothing(closed: Path) -> None:
    user = unprivileged_user()
    assert user is not None
    let_through(closed, user.pw_uid, user.pw_gid)
    before = os.getxattr(closed, "system.posix_acl_access")
    let_through(closed, user.pw_uid, user.pw_gid)
    assert os.getxattr(closed, "system.posix_acl_access") == before
