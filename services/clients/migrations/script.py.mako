"""${message}."""

from __future__ import annotations

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Additions only: the release before this one goes on working (docs/decisions/0034-migrations.md)."""
    op.execute("")
