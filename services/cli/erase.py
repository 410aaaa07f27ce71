"""`pentimento erase`: one picture removed from everywhere that the project can reach; or a tenant (`erasures.py`).

In: a SHA-256, or an upload's id, and a tenant. Out: what was removed, by table and object, and what is left.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from services.cli.connections import opened_database
from services.cli.console import (
    DataOption,
    JsonOption,
    fail,
    note,
    settings_of,
    write_lines,
    write_table,
    wrong_use,
)
from services.cli.erasures import whole_tenant
from services.clients.erasure import Erasures
from services.erasing import Erased
from services.erasing import erase as erased
from services.opening import open_objects
from services.settings import Settings


def erase(
    sha256: Annotated[str | None, typer.Argument(metavar="SHA256", help="The picture, by its content.")] = None,
    upload: Annotated[str | None, typer.Option("--upload", metavar="ID", help="The picture of this upload.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Whose picture; without a picture: all that there is of this tenant.")
    ] = None,
    confirm: Annotated[
        str | None, typer.Option("--confirm", metavar="NAME", help="The tenant's name again, instead of being asked.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who erases, for the record; else the user's name.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, where a picture is named.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Erase a picture of a tenant: bytes, fingerprint, masks, annotations, samples, and its place in shards.

    Verdicts keep their ids, decision and times, and lose the picture, mask and original. Frozen dataset versions that
    hold it are marked `erased`. The same picture of another tenant stays. Doing it again does no harm. What it cannot
    reach: messages on Kafka until their retention ends, backups, and what networks were fitted on it.

    With --tenant alone the whole tenant goes, verdicts and originals too, and what went from where is reported. It asks
    for the tenant's name. The audit log stays, without the names of uploads.

    Examples: `pentimento erase --upload photo-81 --tenant acme --yes`, `pentimento erase --tenant acme`
    """
    if (sha256 is not None and upload is not None) or (sha256 is None and upload is None and tenant is None):
        raise wrong_use("name one picture, by its SHA256 or by --upload ID; or a --tenant, to erase all of it")
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise wrong_use(f"{sha256} is no SHA-256: 64 lower-case hexadecimal digits")
    settings, who = settings_of(data), by or getpass.getuser()
    if sha256 is None and upload is None:
        whole_tenant(settings, str(tenant), confirm, who, as_json=as_json)
    else:
        _picture(settings, tenant or "default", sha256, upload, who, yes=yes, as_json=as_json)


def _picture(
    settings: Settings, tenant: str, sha256: str | None, upload: str | None, by: str, *, yes: bool, as_json: bool
) -> None:
    content = sha256 or asyncio.run(_content(settings, tenant, str(upload)))
    if content is None:
        fail(f"tenant {tenant} has no upload {upload} with a picture: it was never accepted, or is erased already")
    if not yes:
        _confirm(f"Erase picture {content} of tenant {tenant} for good?")
    done = asyncio.run(_erased(settings, tenant, content, by))
    if as_json:
        write_lines([{"tenant": tenant, **asdict(done)}])
    else:
        _show(done)
    if done.left:
        fail(f"the picture is still named in {', '.join(done.left)}: ids that hold its hash stay, all else is a bug")


async def _content(settings: Settings, tenant: str, upload_id: str) -> str | None:
    async with opened_database(settings) as database:
        return await Erasures(database).content_of(tenant, upload_id)


async def _erased(settings: Settings, tenant: str, sha256: str, by: str) -> Erased:
    objects = open_objects(settings.objects)
    try:
        async with opened_database(settings) as database:
            return await erased(database, objects, tenant=tenant, sha256=sha256, by=by)
    finally:
        objects.close()


def _confirm(question: str) -> None:
    """Goes on where a person at the terminal says yes."""
    if not sys.stdin.isatty():
        raise wrong_use("erasing asks first, and here is no terminal to ask at: add --yes")
    if not typer.confirm(question, err=True):
        fail("nothing was erased")


def _show(done: Erased) -> None:
    rows = [(table, f"{count} rows") for table, count in done.rows.items()]
    rows += [("object", key) for key in done.objects]
    rows += [("shard, packed anew", key) for key in done.shards]
    write_table(("where", "what"), rows)
    if done.shared:
        note("another tenant has the same picture: its bytes and fingerprint stay for them")
    if done.versions:
        note(f"dataset versions marked as erased: {', '.join(done.versions)}")
