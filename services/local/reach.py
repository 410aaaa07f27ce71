"""A system user for PostgreSQL, which refuses to run as root, and the one right that it needs to reach its programs.

In: where the programs lie, perhaps below folders that only root may enter. Out: a user without any other right, who may
pass through those folders (an access control entry of `--x` for that user alone: nobody else gains anything). Only
root comes here; everybody else runs PostgreSQL as themselves.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import struct
import subprocess
from pathlib import Path

from services.core.errors import Unavailable

USER = "pentimento-db"
ACL = "system.posix_acl_access"
HEADER, ENTRY = struct.Struct("<I"), struct.Struct("<HHI")  # linux/posix_acl_xattr.h: version; tag, permissions, id
VERSION = 2
USER_OBJ, NAMED_USER, GROUP_OBJ, NAMED_GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
NO_ID = 0xFFFF_FFFF
EXECUTE = 1

Entries = dict[tuple[int, int], int]


def unprivileged_user() -> pwd.struct_passwd | None:
    """The user to run PostgreSQL as: None (ourselves) unless we are root. Made at first need. Raises Unavailable."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        pass
    useradd = shutil.which("useradd")
    if useradd is None:
        return pwd.getpwnam("nobody")  # small images have no useradd; its data folder stays closed to others
    command = (useradd, "--system", "--no-create-home", "--shell", "/bin/false", "--user-group", USER)
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return pwd.getpwnam(USER)
    except KeyError:
        text = f"PostgreSQL refuses to run as root and the user {USER} cannot be made ({made.stderr.strip()})"
        raise Unavailable("postgres", f"{text}: make it, or run as another user") from None


def let_through(path: Path, uid: int, gid: int) -> None:
    """Let a user pass through every folder above `path`, and `path` itself. Raises Unavailable where that fails."""
    for folder in reversed((path.resolve(), *path.resolve().parents)):
        if may_enter(folder, uid, gid):
            continue
        try:
            _grant(folder, uid)
        except OSError as error:
            text = f"user {pwd.getpwuid(uid).pw_name} may not enter {folder} and cannot be let in ({error.strerror})"
            hint = "install pentimento where every user may read, or run as another user"
            raise Unavailable("postgres", f"{text}: {hint}") from error


def may_enter(folder: Path, uid: int, gid: int) -> bool:
    """Whether a user without other groups may pass through a folder, by its mode and access control list."""
    entries, about = _entries(folder), folder.stat()
    if about.st_uid == uid:
        return bool(entries[USER_OBJ, NO_ID] & EXECUTE)
    mask = entries.get((MASK, NO_ID), 7)
    if (NAMED_USER, uid) in entries:
        return bool(entries[NAMED_USER, uid] & mask & EXECUTE)
    if about.st_gid == gid:
        return bool(entries[GROUP_OBJ, NO_ID] & mask & EXECUTE)
    return bool(entries[OTHER, NO_ID] & EXECUTE)


def _grant(folder: Path, uid: int) -> None:
    entries = _entries(folder)
    entries[NAMED_USER, uid] = entries.get((NAMED_USER, uid), 0) | EXECUTE
    grouped = (NAMED_USER, GROUP_OBJ, NAMED_GROUP)
    mask = 0
    for (tag, _), permissions in entries.items():
        mask |= permissions if tag in grouped else 0
    entries[MASK, NO_ID] = mask
    value = HEADER.pack(VERSION) + b"".join(ENTRY.pack(tag, entries[tag, who], who) for tag, who in sorted(entries))
    os.setxattr(folder, ACL, value)


def _entries(folder: Path) -> Entries:
    """(tag, id) to permission bits; from the mode where there is no list."""
    try:
        value = os.getxattr(folder, ACL)
    except OSError:
        mode = stat.S_IMODE(folder.stat().st_mode)
        return {(USER_OBJ, NO_ID): mode >> 6, (GROUP_OBJ, NO_ID): mode >> 3 & 7, (OTHER, NO_ID): mode & 7}
    return {(tag, who): permissions for tag, permissions, who in ENTRY.iter_unpack(value[HEADER.size :])}
