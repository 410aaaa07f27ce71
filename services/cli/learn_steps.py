"""The steps of a round of the learning loop, each of which may be repeated.

In: a round, settings, a database. Out: what each step brought. Annotating and adding are the commands of these names;
fit and gate run as processes of their own, which end when this one does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from services.cli.console import note, progress
from services.cli.learn_annotate import annotated
from services.cli.learn_samples import added
from services.cli.promoting import promoting_opened
from services.clients.database import Database
from services.clients.datasets import Datasets
from services.clients.models import UNCONSTRAINED
from services.clients.objects import Objects
from services.clients.promotions import Promotions, Releases
from services.clients.rounds import Rounds
from services.clients.samples import Samples
from services.core.errors import Broken
from services.core.learn.promotion import served
from services.core.learn.rounds import Done, Round, Step
from services.core.learn.samples import Caps
from services.local.component import leashed
from services.promotion.promoter import ARCHIVE_BYTES
from services.settings import Settings

if TYPE_CHECKING:
    from trainer.loop.machine import Work
    from trainer.loop.work import Folder

STDERR = 2
REFUSED = 3  # the gate's exit status
REPORT = {"report.json": "application/json", "report.md": "text/markdown", "report.html": "text/html"}


class Steps:
    """What is done at each step. Methods raise Unavailable, and Broken where a person has to look."""

    def __init__(self, settings: Settings, database: Database, objects: Objects) -> None:
        self._settings = settings
        self._database = database
        self._objects = objects

    def works(self) -> Mapping[Step, Work]:
        """Every step's work."""
        return {
            "annotate": self.annotate,
            "collect": self.collect,
            "freeze": self.freeze,
            "fit": self.fit,
            "gate": self.gate,
            "register": self.register,
            "promote": self.promote,
            "watch": self.watch,
        }

    async def annotate(self, at: Round) -> Done:
        """Hard cases to annotations. A case that fails is a row with its error, and no reason to stop."""
        for tenant in at.options.tenants:
            outcomes = await annotated(self._settings, tenant, None, at.options.side, 0, False)
            note(f"{tenant}: {', '.join(f'{count} {name}' for name, count in sorted(outcomes.items())) or 'no case'}")
        return Done()

    async def collect(self, at: Round) -> Done:
        """Kept annotations to samples."""
        for tenant in at.options.tenants:
            note(f"{tenant}: {await added(self._settings, tenant, False)} samples added")
        return Done()

    async def freeze(self, at: Round) -> Done:
        """Samples to a dataset version, where there are enough to train on that no round was fitted on."""
        from trainer.samples.freezing import Freezer

        options, caps = at.options, Caps(at.options.per_class)
        with progress() as bar:
            task = bar.add_task("freezing", total=None)
            freezer = Freezer(
                Samples(self._database), Datasets(self._database), self._objects, advance=lambda: bar.advance(task)
            )
            choice = await freezer.choice(options.tenants, caps)
            new = await Rounds(self._database).unseen([each.id for each in choice if each.split == "train"])
            if new < options.least_new:
                return Done(new, decision="too_few", reason=f"{new} new training samples of {options.least_new}")
            bar.update(task, total=len(choice))
            version = await freezer.freeze(choice, tenants=options.tenants, caps=caps, now=datetime.now(UTC))
        return Done(new, dataset=version.name)

    async def fit(self, at: Round) -> Done:
        """A challenger that goes on from the champion, fitted on the dataset; from its checkpoint where it has one."""
        from trainer.loop.work import fit_command, version_of

        files = self.files(at)
        await asyncio.to_thread(files.keep_champion, await self._champion(at))
        place = await self._dataset(at, files)
        if status := await run(fit_command(at, files, place)):
            raise Broken(f"the fit of round {at.id} ended with status {status}: see above, then start the loop again")
        champion, challenger = version_of(files.champion), version_of(files.challenger)
        key = f"rounds/{at.id:06}/{files.challenger.name}"
        await self._objects.put(key, files.challenger.read_bytes(), "application/octet-stream")
        return Done(champion=champion, challenger=challenger, weights_key=key, versions=_card(files.challenger))

    async def gate(self, at: Round) -> Done:
        """Whether the challenger may take the champion's place, and a report that says why."""
        from trainer.loop.work import gate_command, refusal

        (dataset,) = await Datasets(self._database).versions(_known(at.dataset))
        if dataset.state == "erased":
            why = f"a sample of {dataset.name} was erased after the fit began: the next round is fitted without it"
            return Done(decision="refused", reason=why)
        files = self.files(at)
        if (status := await run(gate_command(at, files))) not in (0, REFUSED):
            raise Broken(f"the gate of round {at.id} ended with status {status}: see above, then start the loop again")
        key = f"rounds/{at.id:06}/report"
        for name, kind in REPORT.items():
            await self._objects.put(f"{key}/{name}", (files.report / name).read_bytes(), kind)
        why_not = refusal(files)
        return Done(report_key=key, decision=None if why_not is None else "refused", reason=why_not)

    async def register(self, at: Round) -> Done:
        """The challenger into the registry."""
        from trainer.loop.work import registered

        entry = await asyncio.to_thread(registered, at, self.files(at))
        if at.options.promote:
            return Done()
        how = f"pentimento promote {UNCONSTRAINED} challenger --registry {at.options.registry}"
        return Done(decision="registered", reason=f"passed the gate; registered as {entry.version}. Promote it: {how}")

    async def promote(self, at: Round) -> Done:
        """Lets the challenger serve, once in this round, and makes it the registry's champion."""
        version = _known(at.challenger)
        archive = self.files(at).archive.read_bytes()
        async with promoting_opened(self._settings) as promoting:
            await promoting.promoter.add(UNCONSTRAINED, version, archive)
            history = await promoting.promotions.history(UNCONSTRAINED)
            if not any((each.version, each.state) == (version, "done") for each in history):
                try:
                    await promoting.promoter.promote(UNCONSTRAINED, version, reason=f"passed the gate, round {at.id}")
                except Broken as error:
                    return Done(decision="refused", reason=str(error))
        await asyncio.to_thread(_name_champion, at, version)
        if at.options.watch_minutes > 0:
            return Done()
        return Done(decision="promoted", reason="passed the gate; it was not to be watched")

    async def watch(self, at: Round) -> Done:
        """Watches the version that serves now, and takes it back where it does worse."""
        version, minutes = _known(at.challenger), at.options.watch_minutes
        async with promoting_opened(self._settings) as promoting:
            history = await promoting.promotions.history(UNCONSTRAINED)
            newest = next(each for each in reversed(history) if each.state == "done")
            if newest.serves == version:
                trouble = await promoting.watcher.watch(newest, for_s=60 * minutes)
                if trouble is None:
                    return Done(decision="promoted", reason=f"passed the gate; did well for {minutes:g} minutes")
                history = await promoting.promotions.history(UNCONSTRAINED)
                newest = next(each for each in reversed(history) if each.state == "done")
        if (newest.version, newest.action) != (version, "rolled_back"):
            return Done(decision="promoted", reason=f"{newest.serves} was promoted while it was watched")
        return Done(decision="rolled_back", reason=newest.reason)

    async def _champion(self, at: Round) -> bytes:
        """The weights that serve: those of the newest promotion, else those that ship."""
        from model_archive import card
        from trainer.loop.work import NETWORK, weights_in

        if at.options.champion:
            try:
                return await asyncio.to_thread(Path(at.options.champion).read_bytes)
            except OSError as error:
                raise Broken(
                    f"{at.options.champion} cannot be read: {error}. Restore it, or abandon the round"
                ) from error
        stack = served(await Promotions(self._database).history(UNCONSTRAINED))
        release = await Releases(self._database).get(UNCONSTRAINED, stack[-1]) if stack else None
        if release is None:
            return card.default_path(NETWORK).read_bytes()
        return weights_in(await self._objects.get(release.object_key, ARCHIVE_BYTES))

    async def _dataset(self, at: Round, files: Folder) -> Path:
        """A folder below which the dataset's shards lie: the object store's own, where it is one."""
        from trainer.loop.work import fetched

        place = urlsplit(self._settings.objects.url)
        if place.scheme == "file":
            return Path(url2pathname(place.path))
        return await fetched(self._objects, _known(at.dataset), files.root / "objects")

    def files(self, at: Round) -> Folder:
        """The files of a round."""
        from trainer.loop.work import Folder

        return Folder(Path(at.options.work) / f"round-{at.id:06}")


async def run(command: Sequence[str]) -> int:
    """Runs a command that ends when this process does. Its output goes to stderr. Returns its exit status."""
    process = await asyncio.create_subprocess_exec(*leashed(command), stdout=STDERR)
    return await process.wait()


def _known(value: str | None) -> str:
    if value is None:
        raise Broken("the round lacks what an earlier step of it brings: end it: pentimento learn abandon")
    return value


def _card(weights: Path) -> dict[str, Any]:
    """What the card says of where weights come from."""
    from model_archive import card

    about = card.read(weights)
    return {name: getattr(about, name) for name in ("code_sha256", "data_sha256", "command", "fitted_on")}


def _name_champion(at: Round, version: str) -> None:
    from trainer.registry import Registry

    Registry(at.options.registry).name(UNCONSTRAINED, "champion", version)
