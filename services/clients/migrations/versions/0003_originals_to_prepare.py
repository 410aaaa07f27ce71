"""A table of originals that are registered and wait to be prepared: to be found by their parts.

Originals from before are not in it: they got their visual words when they were registered, or get them by
`pentimento originals reindex --words`.
"""

from __future__ import annotations

from services.clients.migrating import run_script

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """In one transaction: the table is empty, and so are its indexes."""
    run_script(
        """
create table if not exists unprepared (
    seq      bigint primary key references candidate (seq) on delete cascade,
    tenant   text not null,
    since    timestamptz not null default now(),
    due_at   timestamptz not null default now(),
    attempts integer not null default 0
);
create index if not exists unprepared_due on unprepared (due_at, seq);
create index if not exists unprepared_oldest on unprepared (since);
create index if not exists unprepared_of_tenant on unprepared (tenant);
"""
    )
