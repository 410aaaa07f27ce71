"""Promotes a version of a model to serve, and takes it back, without losing a request.

In: an archive, or a version that is known. Out: a version that serves, a row that says why, an event. What is to be
done is written down first, then done, then written down as done; every step may be repeated, so that whoever asks again
after a crash, at whatever step, goes on. The new version is loaded beside the old one and must answer before it serves;
what the old one has in work it finishes, and it stays loaded for the way back.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.clients.objects import Objects
from services.clients.promotions import Promotions, Releases
from services.clients.serving import Served, Serving
from services.core.errors import Broken, PentimentoError, Rejected, Unavailable
from services.core.events import ModelPromoted
from services.core.learn.promotion import Promotion, Release, open_one, served

ARCHIVE_BYTES = 2_000_000_000  # largest archive that is read: a large backbone in float32

log = structlog.get_logger()

Look = Callable[[str, str], Awaitable[None]]
Publish = Callable[[ModelPromoted], Awaitable[None]]


class Promoter:
    """Acts on one model server.

    `store` is the server's folder of archives as it is seen here; None where the archives get there in another way,
    under `Release.file_name`. `look(model, version)` asks a loaded version for an answer and raises where that is none.
    `publish` sends the event; without one, promotions are recorded alone. Methods raise Unavailable while a part is
    away, and Broken for what cannot be done, and where a version does not answer; then the old one serves on.
    """

    def __init__(
        self,
        *,
        releases: Releases,
        promotions: Promotions,
        serving: Serving,
        objects: Objects,
        store: Path | None,
        look: Look,
        publish: Publish | None = None,
    ) -> None:
        self._releases = releases
        self._promotions = promotions
        self._serving = serving
        self._objects = objects
        self._store = store
        self._look = look
        self._publish = publish

    async def add(self, model: str, version: str, archive: bytes) -> Release:
        """Keep an archive as a version that may serve."""
        release = Release(model, version, hashlib.sha256(archive).hexdigest(), len(archive))
        await self._objects.put(release.object_key, archive, "application/zip")
        await self._releases.add(release)
        return release

    async def promote(self, model: str, version: str, *, reason: str) -> Promotion | None:
        """Let a known version serve. None where it does already; a promotion that was broken off is gone on with."""
        release = await self._releases.get(model, version)
        if release is None:
            raise Broken(f"no version {version} of {model} is known: give its archive")
        async with self._promotions.alone(model):
            history = await self._promotions.history(model)
            begun = open_one(history)
            if begun is not None and (begun.action, begun.version) != ("promoted", version):
                await self._promotions.end(begun, "given_up")
                begun = None
            if begun is None:
                stack = served(history)
                now = stack[-1] if stack else await self._serving_now(model)
                if now == version:
                    await self._tell(history)
                    await self._serve(model, version)
                    return None
                begun = await self._promotions.begin(release, previous=now, action="promoted", reason=reason)
            return await self._carry_out(begun)

    async def rollback(self, model: str, *, reason: str, of: str | None = None) -> Promotion | None:
        """Let the version serve that served before. None where `of` is given and does not serve (any more). A promotion
        that was broken off counts as done, since its version may serve; a broken off rollback is gone on with."""
        async with self._promotions.alone(model):
            history = await self._promotions.history(model)
            begun = open_one(history)
            if begun is not None and begun.action == "promoted":
                await self._promotions.end(begun, "done")
                history, begun = await self._promotions.history(model), None
            if begun is None:
                stack = served(history)
                if of is not None and (not stack or stack[-1] != of):
                    await self._tell(history)
                    return None
                if len(stack) < 2:
                    raise Broken(f"no version of {model} served before the one that does now")
                release = await self._releases.get(model, stack[-1])
                if release is None:
                    raise Broken(f"version {stack[-1]} of {model} was promoted and is not known any more")
                begun = await self._promotions.begin(release, previous=stack[-2], action="rolled_back", reason=reason)
            return await self._carry_out(begun)

    async def restore(self, model: str) -> str | None:
        """After a restart of the model server: let the version serve again that should. What was begun is ended first.
        The version, or None where nothing was ever promoted."""
        async with self._promotions.alone(model):
            history = await self._promotions.history(model)
            if (begun := open_one(history)) is not None:
                await self._carry_out(begun)
                history = await self._promotions.history(model)
            await self._tell(history)
            stack = served(history)
            if stack and await self._serving_now(model) != stack[-1]:
                await self._serve(model, stack[-1])
        return stack[-1] if stack else None

    async def load(self, model: str, version: str) -> None:
        """Load a known version beside the one that serves, and see that it answers; for a shadow run."""
        async with self._promotions.alone(model):
            loaded = await self._loaded(model, version)
            if loaded is None or not loaded.ready:
                await self._load(model, version, again=loaded is not None)
            await self._look(model, version)

    async def retire(self, model: str) -> list[str]:
        """Unload what does not serve, is idle and could be loaded again. Returns those versions."""
        known = {each.version for each in await self._releases.find(model)}
        async with self._promotions.alone(model):
            idle = [each for each in await self._serving.served(model) if not each.serves and not each.waiting]
            gone = [each.version for each in idle if each.version in known]
            for version in gone:
                await self._serving.remove(model, version)
        return gone

    async def _carry_out(self, promotion: Promotion) -> Promotion:
        try:
            await self._serve(promotion.model, promotion.serves, proven=promotion.action == "rolled_back")
        except Broken:
            await self._promotions.end(promotion, "given_up")
            raise
        await self._promotions.end(promotion, "done")
        log.info(promotion.action, model=promotion.model, version=promotion.version, reason=promotion.reason)
        await self._tell(await self._promotions.history(promotion.model))
        return promotion

    async def _serve(self, model: str, version: str, *, proven: bool = False) -> None:
        """Load a version where it is not, see that it answers unless it is `proven` to, and let it serve."""
        loaded = await self._loaded(model, version)
        if loaded is not None and loaded.serves:
            return
        if loaded is None or not loaded.ready:
            await self._load(model, version, again=loaded is not None)
            proven = False
        try:
            if not proven:
                await self._look(model, version)
        except (Rejected, Unavailable, Broken) as error:
            await self._serving.remove(model, version)  # raises where the server is away, rather than the version bad
            raise Broken(f"version {version} of {model} does not answer: {error}") from error
        await self._serving.set_default(model, version)

    async def _load(self, model: str, version: str, *, again: bool) -> None:
        release = await self._releases.get(model, version)
        if release is None:
            raise Broken(f"version {version} of {model} is neither loaded nor known: restart the model server")
        if again:
            await self._serving.remove(model, version)
        if self._store is not None:
            archive = await self._objects.get(release.object_key, ARCHIVE_BYTES)
            if hashlib.sha256(archive).hexdigest() != release.archive_sha256:
                raise Broken(f"{release.object_key} is not the archive of {model} {version} any more: restore it")
            await asyncio.to_thread(_place, self._store / release.file_name, archive)
        try:
            await self._serving.register(model, release.file_name)
        except PentimentoError:
            await self._serving.remove(model, version)  # TorchServe keeps a version whose workers do not start
            raise

    async def _loaded(self, model: str, version: str) -> Served | None:
        return next((each for each in await self._serving.served(model) if each.version == version), None)

    async def _serving_now(self, model: str) -> str:
        loaded = await self._serving.served(model)
        if not loaded:
            raise Broken(f"the model server has no model {model}")
        return loaded[0].version

    async def _tell(self, history: list[Promotion]) -> None:
        """Publish what is done and was not published. What cannot be sent now is sent the next time."""
        if self._publish is None:
            return
        for each in history:
            if each.state == "done" and not each.published:
                try:
                    await self._publish(each.event())
                except Unavailable as error:
                    log.warning("promotion_not_published", model=each.model, version=each.version, error=str(error))
                    return
                await self._promotions.published(each)


def _place(path: Path, archive: bytes) -> None:
    """Write a file whole or not at all."""
    unfinished = path.with_suffix(".writing")
    unfinished.write_bytes(archive)
    unfinished.replace(path)
