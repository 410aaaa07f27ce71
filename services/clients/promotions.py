"""Promotions in PostgreSQL: versions that may serve, and what was promoted or rolled back, when and why.

In: what somebody is about to do. Out: what was done, so that whoever comes after a crash can go on. One process at a
time acts on a model (`alone`); the lock is the database's and goes with a process that dies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from services.clients.database import Database
from services.core.errors import Broken
from services.core.learn.promotion import Action, Promotion, Release, State

ALONE_S = 1800.0  # a promotion loads a model and waits for its first answer; beyond that it hangs


class Releases:
    """Versions that may serve. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, release: Release) -> None:
        """Keep a version. Raises Broken where another archive has its name already: versions never change."""
        async with self._database.connection() as connection:
            await connection.execute(_ADD, _values(release))
        known = await self.get(release.model, release.version)
        if known is None or known.archive_sha256 != release.archive_sha256:
            raise Broken(
                f"another archive is version {release.version} of {release.model} already: package it with --version",
            )

    async def get(self, model: str, version: str) -> Release | None:
        """A version; None where it is not known."""
        return next((each for each in await self.find(model) if each.version == version), None)

    async def find(self, model: str | None = None) -> list[Release]:
        """All versions, of one model or of all, the newest first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_RELEASES, {"model": model})).fetchall()
        return [Release(row["model"], row["version"], row["archive_sha256"], row["size_bytes"]) for row in rows]


class Promotions:
    """What was promoted and rolled back. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def alone(self, model: str) -> AsyncIterator[None]:
        """Nobody else promotes or rolls this model back until the block ends; others wait."""
        async with self._database.alone(timeout_s=ALONE_S) as connection:
            await connection.execute("select pg_advisory_lock(hashtextextended('promotion/' || %s, 0))", [model])
            yield

    async def history(self, model: str) -> list[Promotion]:
        """Everything that was promoted or rolled back, oldest first."""
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_HISTORY, {"model": model})).fetchall()
        return [_promotion(row) for row in rows]

    async def begin(self, release: Release, *, previous: str, action: Action, reason: str) -> Promotion:
        """Write down what is about to be done."""
        values = _values(release) | {"previous": previous, "action": action, "reason": reason}
        async with self._database.connection() as connection:
            row = await (await connection.execute(_BEGIN, values)).fetchone()
        if row is None:
            raise Broken(f"the promotion of {release.model} {release.version} was not stored")
        return _promotion(row)

    async def end(self, promotion: Promotion, state: State) -> None:
        """Write down that it was done, or given up."""
        async with self._database.connection() as connection:
            await connection.execute(_END, {"id": promotion.id, "state": state})

    async def published(self, promotion: Promotion) -> None:
        """Write down that Kafka has its event."""
        async with self._database.connection() as connection:
            await connection.execute("update promotion set published = true where id = %s", [promotion.id])


_ADD = """
insert into model_version (model, version, archive_sha256, size_bytes)
values (%(model)s, %(version)s, %(archive_sha256)s, %(size_bytes)s)
on conflict do nothing
"""
_RELEASES = """
select model, version, archive_sha256, size_bytes from model_version
where %(model)s::text is null or model = %(model)s
order by model, added_at desc
"""
_COLUMNS = "id, model, version, previous_version, action, archive_sha256, reason, state, begun_at, published"
_HISTORY = f"select {_COLUMNS} from promotion where model = %(model)s order by id"
_BEGIN = f"""
insert into promotion (model, version, previous_version, action, archive_sha256, reason)
values (%(model)s, %(version)s, %(previous)s, %(action)s, %(archive_sha256)s, %(reason)s)
returning {_COLUMNS}
"""
_END = "update promotion set state = %(state)s, ended_at = now() where id = %(id)s and state = 'begun'"


def _values(release: Release) -> dict[str, Any]:
    return {
        "model": release.model,
        "version": release.version,
        "archive_sha256": release.archive_sha256,
        "size_bytes": release.size_bytes,
    }


def _promotion(row: dict[str, Any]) -> Promotion:
    return Promotion(**row)
