"""Promotions on a real TorchServe and PostgreSQL: what serves, what stays loaded, and what a crash leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.clients.database import Database
from services.clients.models import TorchServeModels
from services.clients.promotions import Promotions, Releases
from services.clients.serving import Serving
from services.core.errors import Broken
from services.core.events import ModelPromoted
from services.core.learn.promotion import served
from services.local.torchserve import TorchServe
from services.opening import open_objects
from services.promotion.opening import Promoting
from services.promotion.promoter import Promoter
from services.settings import Settings
from tests.clients.tiny_model import photo
from tests.promotion.conftest import BASE, MODEL, archive


async def answering(models: TorchServeModels) -> str:
    """The version that answers an upload."""
    return (await models.unconstrained(photo())).model.version


async def loaded(promoting: Promoting) -> set[str]:
    return {each.version for each in await promoting.serving.served(MODEL)}


async def known(promoting: Promoting, version: str, **how: Any) -> str:
    return (await promoting.promoter.add(MODEL, version, archive(version, **how))).version


async def test_what_is_promoted_serves_and_rollbacks_lead_back_through_what_served(
    promoting: Promoting, models: TorchServeModels
) -> None:
    promoter = promoting.promoter
    done = await promoter.promote(MODEL, await known(promoting, "2.0"), reason="better")
    assert done is not None
    assert (done.version, done.previous_version, done.reason) == ("2.0", BASE, "better")
    assert await answering(models) == "2.0"
    assert await loaded(promoting) == {"2.0", BASE}
    assert await promoter.promote(MODEL, "2.0", reason="again") is None
    await promoter.promote(MODEL, await known(promoting, "3.0+abc"), reason="better")
    assert await promoter.retire(MODEL) == ["2.0"]
    assert await loaded(promoting) == {"3.0+abc", BASE}  # the first one could not be loaded again
    assert await promoter.rollback(MODEL, reason="worse", of="2.0") is None
    back = await promoter.rollback(MODEL, reason="worse", of="3.0+abc")
    assert back is not None
    assert (back.version, back.serves) == ("3.0+abc", "2.0")
    assert await answering(models) == "2.0"
    await promoter.rollback(MODEL, reason="worse too")
    assert await answering(models) == BASE
    with pytest.raises(Broken, match="no version of unconstrained served before"):
        await promoter.rollback(MODEL, reason="further")


@pytest.mark.parametrize(("how", "why"), [("broken", "refused"), ("silent", "does not answer")])
async def test_a_version_that_does_not_serve_is_not_promoted(
    promoting: Promoting, models: TorchServeModels, tmp_path: Path, how: str, why: str
) -> None:
    failing = tmp_path / "fails"
    failing.touch()
    bad = archive("2.0", broken=how == "broken", fails_with=failing if how == "silent" else None)
    await promoting.promoter.add(MODEL, "2.0", bad)
    with pytest.raises(Broken, match=why):
        await promoting.promoter.promote(MODEL, "2.0", reason="better")
    assert await answering(models) == BASE
    assert await loaded(promoting) == {BASE}
    assert [each.state for each in await promoting.promotions.history(MODEL)] == ["given_up"]


async def test_a_version_is_one_archive_for_ever(promoting: Promoting, tmp_path: Path) -> None:
    await known(promoting, "2.0")
    await known(promoting, "2.0")
    with pytest.raises(Broken, match="another archive is version"):
        await known(promoting, "2.0", fails_with=tmp_path)
    with pytest.raises(Broken, match="give its archive"):
        await promoting.promoter.promote(MODEL, "9.9", reason="better")


@pytest.mark.slow
async def test_after_a_restart_of_the_server_the_champion_serves_again(
    promoting: Promoting, models: TorchServeModels, server: TorchServe
) -> None:
    await promoting.promoter.promote(MODEL, await known(promoting, "2.0"), reason="better")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    assert await answering(models) == BASE
    assert await promoting.promoter.restore(MODEL) == "2.0"
    assert await answering(models) == "2.0"


class Killed(BaseException):
    """Stands for a process that dies."""


class Fuse:
    """Kills before the step of that name, where there is one."""

    step: str | None = None

    def __call__(self, step: str) -> None:
        if step == self.step:
            raise Killed


def fused(of: type[Any], fuse: Fuse, *names: str) -> type[Any]:
    """The same class, whose named methods go through a fuse before."""

    def through(name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            fuse(name)
            return await getattr(of, name)(*arguments, **named)

        return call

    return type(of.__name__, (of,), {name: through(name) for name in names})


@dataclass(frozen=True)
class Mortal:
    """A promoter that dies where its fuse says so, and what it told."""

    promoter: Promoter
    fuse: Fuse
    told: list[ModelPromoted]


@pytest.fixture
async def mortal(server: TorchServe, settings: Settings, database: Database) -> AsyncIterator[Mortal]:
    fuse, told = Fuse(), list[ModelPromoted]()
    objects = open_objects(settings.objects)
    serving = fused(Serving, fuse, "register", "set_default")(server.management_url, key_file=server.key_file)

    async def look(model: str, version: str) -> None:
        fuse("look")

    async def publish(event: ModelPromoted) -> None:
        told.append(event)

    promotions = fused(Promotions, fuse, "begin", "end", "published")(database)
    parts = {"releases": Releases(database), "promotions": promotions, "serving": serving, "objects": objects}
    yield Mortal(Promoter(**parts, store=server.store, look=look, publish=publish), fuse, told)
    await serving.close()
    objects.close()


async def test_whoever_dies_at_any_step_leaves_what_the_next_one_goes_on_with(
    promoting: Promoting, mortal: Mortal, models: TorchServeModels
) -> None:
    version = await known(promoting, "2.0")
    promote = partial(mortal.promoter.promote, MODEL, version, reason="better")
    rollback = partial(mortal.promoter.rollback, MODEL, reason="worse", of=version)

    async def killed_and_done_again(act: Callable[[], Awaitable[object]], step: str, expected: str) -> None:
        mortal.fuse.step = step
        with pytest.raises(Killed):
            await act()
        assert await answering(models) in (version, BASE)
        mortal.fuse.step = None
        await act()
        assert await answering(models) == expected
        history = await promoting.promotions.history(MODEL)
        assert served(history)[-1] == expected
        assert all(each.state == "done" and each.published for each in history)
        assert {each.event_id() for each in mortal.told} == {each.event().event_id() for each in history}

    for step in ("register", "begin", "look", "set_default", "end", "published"):
        await killed_and_done_again(promote, step, version)
        await rollback()
    for step in ("begin", "set_default", "end", "published"):
        await promote()
        await killed_and_done_again(rollback, step, BASE)
