"""The tables as they were when alembic came: schema version 6.

A database of that version has them and is only marked; an older one, or an empty one, gets what it lacks, because the
script may be applied to every version before. `schema_version` stays at 6 for ever: by it a release from before alembic
knows that there is nothing for it to do.
"""

from __future__ import annotations

from pathlib import Path

from alembic import context, op

from services.clients.migrating import run_script

revision = "0001"
down_revision = None

VERSION = 6
OLD_LOCK = 0x70656E74
"""What releases before alembic lock while they apply their schema."""

_BEFORE = f"""
select pg_advisory_xact_lock({OLD_LOCK});
create table if not exists schema_version (version integer primary key, applied_at timestamptz default now());
"""
_AFTER = f"insert into schema_version (version) values ({VERSION}) on conflict do nothing;\n"


def upgrade() -> None:
    """Everything in one transaction: the next process sees all of it or nothing."""
    run_script(_BEFORE)
    if context.is_offline_mode() or not _there():
        run_script(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))
        run_script(_AFTER)


def _there() -> bool:
    found = op.get_bind().exec_driver_sql("select max(version) from schema_version").scalar()
    return (found or 0) >= VERSION
