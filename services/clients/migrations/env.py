"""How alembic runs the revisions: on the connection that `migrating.upgrade` holds the lock with, or as a script.

Each revision is a transaction of its own, so that one that fails takes nothing of the others back, and nothing of
itself stays. There is no metadata to compare with: revisions are SQL, written by hand, as all statements here are.
"""

from __future__ import annotations

from alembic import context

if context.is_offline_mode():
    plain = {"paramstyle": "named"}  # any other doubles each percent sign
    context.configure(dialect_name="postgresql", dialect_opts=plain, transaction_per_migration=True)
else:
    context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)

with context.begin_transaction():
    context.run_migrations()
