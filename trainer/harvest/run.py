"""A harvest, stage by stage.

In: the rows of a list, or of a pool with a pool of originals, and a `Plan`. Out: the rows, each with its fate, and how
long each stage took. All that a stage finds out stands in a journal below `state/` before the next one needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from rich.progress import Progress

from services.core.errors import Rejected
from services.core.intake.examine import Limits
from trainer.harvest import looking
from trainer.harvest.annotating import Annotating, annotate, annotator_name
from trainer.harvest.fetching import Web, fetch, found
from trainer.harvest.journal import Facts, Journal, Store
from trainer.harvest.rows import Row, opened, settle_annotated, settle_copies, settle_repeats
from trainer.harvest.sources import Source
from trainer.harvest.workers import Failure, Workers

Advance = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to harvest. State and masks go below `out`, pictures to `cache`; `again` tries once more what failed."""

    out: Path
    cache: Path
    web: Web
    limits: Limits
    workers: int = 1
    flips: bool = True
    side: int = 1024
    again: bool = False

    @property
    def state(self) -> Path:
        """The folder of the journals."""
        return self.out / "state"

    @property
    def masks(self) -> Path:
        """The folder of all masks, kept or not, by their annotation's key."""
        return self.state / "masks"


@dataclass(slots=True)
class Stage:
    """A stage of this run: how many pictures or pairs it did, in how many seconds. What an earlier run did does not
    count."""

    done: int = 0
    seconds: float = 0.0

    @property
    def per_hour(self) -> float | None:
        """Its rate; None where it had nothing to do."""
        return self.done / self.seconds * 3600 if self.done and self.seconds else None


class Harvest:
    """One run. Its journals are open while it is a context. `originals` counts those of a pool that can be used."""

    def __init__(self, plan: Plan, bar: Progress) -> None:
        self.plan = plan
        self._bar = bar
        self._stack = ExitStack()
        self._workers = self._stack.enter_context(Workers(plan.workers))
        self.store = Store(plan.cache)
        self.stages: dict[str, Stage] = {}
        self.originals: int | None = None
        self._fetched, self._pictures, self._paired, self._copies, self._annotated = (
            self._stack.enter_context(Journal(plan.state / f"{name}.jsonl"))
            for name in ("fetched", "pictures", "paired", "copies", "annotated")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, rows: Sequence[Row], pool: Sequence[Source] | None = None) -> None:
        """Takes every row to its fate; `pool` are the originals of rows that have none. Raises Broken, OSError."""
        self._fetch(rows, pool or ())
        self._look(rows, pool or ())
        if pool is not None:
            self._pair(rows, pool)
        settle_repeats(opened(rows))
        self._sort_out_copies(rows)
        self._annotate(rows)

    def _fetch(self, rows: Sequence[Row], pool: Sequence[Source]) -> None:
        sources = [source for row in opened(rows) for source in row.sources()] + list(pool)
        plan = self.plan
        with self._stage("fetch", len(sources)) as (stage, advance):
            stage.done = fetch(
                sources, self.store, self._fetched, plan.web, plan.limits.max_bytes, advance, again=plan.again
            )
        for row in opened(rows):
            for source in row.sources():
                known = found(source, self.store, self._fetched)
                if known["state"] == "fetched":
                    row.learn(source, known)
                elif not row.fate:
                    row.settle(known["state"], f"{source.place}: {known['why']}")

    def _look(self, rows: Sequence[Row], pool: Sequence[Source]) -> None:
        """Decodes every picture once: that it is one, and what it looks like."""
        here = [facts["sha256"] for row in opened(rows) for facts in (row.forged, row.original) if facts]
        here += [known["sha256"] for known in map(self._in_store, pool) if known]
        self._through(
            "look",
            self._pictures,
            {digest: digest for digest in here},
            partial(looking.look, self.store, self.plan.limits),
        )
        for row in opened(rows):
            for source in row.sources():
                seen = self._pictures.get(row.known_of(source)["sha256"]) or {}
                if "error" not in seen:
                    row.learn(source, seen)
                elif not row.fate:
                    row.settle("failed", f"{source.place}: {seen['error']}")

    def _pair(self, rows: Sequence[Row], pool: Sequence[Source]) -> None:
        """Finds the original of each forged picture in the pool: by hash, then by geometry."""
        originals: dict[str, tuple[Source, Facts]] = {}
        for source in pool:
            known = self._in_store(source)
            seen = self._pictures.get(known["sha256"]) if known else None
            if known and seen and "error" not in seen:
                originals.setdefault(known["sha256"], (source, {**known, **seen}))
        self.originals = len(originals)
        among = sha256(" ".join(sorted(originals)).encode()).hexdigest()[:16]
        forged = {f"{row.forged['sha256']} {among}": row.forged for row in opened(rows)}
        near = self._near(forged, [facts for _, facts in originals.values()])
        self._through("verify", self._paired, near, partial(looking.pair, self.store))
        for row in opened(rows):
            said = self._paired.get(f"{row.forged['sha256']} {among}") or {}
            if "error" in said:
                row.settle("failed", said["error"])
            elif said.get("original") is None:
                row.settle("unpaired", "no original of the pool is confirmed by geometry")
            else:
                row.original_found(*originals[said["original"]])

    def _near(self, forged: Mapping[str, Facts], originals: Sequence[Facts]) -> dict[str, looking.Near]:
        """The originals that geometry is to look at, of each forged picture that has any."""
        todo = {key: facts for key, facts in forged.items() if self._paired.get(key) is None}
        near: dict[str, looking.Near] = {}
        with self._stage("search", len(todo)) as (stage, advance):
            among = looking.originals(originals) if originals else None
            for key, facts in todo.items():
                candidates = among.near(facts) if among else []
                if candidates:
                    near[key] = looking.Near(facts["sha256"], tuple(candidates))
                else:
                    self._paired.add({"key": key, "original": None})
                stage.done += 1
                advance()
        return near

    def _sort_out_copies(self, rows: Sequence[Row]) -> None:
        of_original: dict[str, list[Row]] = {}
        for row in opened(rows):
            of_original.setdefault(row.original["sha256"], []).append(row)
        groups = {" ".join(row.forged["sha256"][:16] for row in group): group for group in of_original.values()}
        pictures = {key: [row.forged for row in group] for key, group in groups.items()}
        doubtful = {key: group for key, group in pictures.items() if looking.may_be_copies(group)}
        self._through("copies", self._copies, doubtful, partial(looking.copies, self.store))
        for key, group in groups.items():
            settle_copies(group, (self._copies.get(key) or {}).get("copies", {}))

    def _annotate(self, rows: Sequence[Row]) -> None:
        plan = self.plan
        if not opened(rows):
            return
        plan.masks.mkdir(exist_ok=True)
        name = annotator_name(flips=plan.flips, side=plan.side)
        how = Annotating(self.store, plan.masks, name, plan.flips, plan.side)
        pairs = {how.key(*row.contents): row.contents for row in opened(rows)}
        self._through("annotate", self._annotated, pairs, partial(annotate, how))
        for row in opened(rows):
            said = self._annotated.get(how.key(*row.contents)) or {}
            if "error" in said:
                row.settle("failed", said["error"])
            else:
                settle_annotated(row, said)

    # -- what the stages share -----------------------------------------------------------------------------------------

    def _in_store(self, source: Source) -> Facts | None:
        known = found(source, self.store, self._fetched)
        return known if known["state"] == "fetched" else None

    def _through(self, name: str, journal: Journal, items: Mapping[str, Any], work: Callable[[Any], Facts]) -> None:
        """Has `work` done on the items that the journal does not know by their keys, and notes what comes of each.

        An error is noted for good only where it is surely the picture's fault: a process may have died for memory.
        """
        todo = [(key, item) for key, item in items.items() if self._is_open(journal.get(key))]
        with self._stage(name, len(todo)) as (stage, advance):
            for (key, _), answer in self._workers.each(partial(_apply, work), todo):
                if isinstance(answer, Failure):
                    for_good = isinstance(answer, Rejected) and answer.code != "decoder_crashed"
                    journal.add({"key": key, "error": str(answer)}, lasting=for_good)
                else:
                    journal.add({**answer, "key": key})
                stage.done += 1
                advance()

    def _is_open(self, known: Facts | None) -> bool:
        return known is None or (self.plan.again and "error" in known)

    @contextmanager
    def _stage(self, name: str, total: int) -> Iterator[tuple[Stage, Advance]]:
        stage = self.stages[name] = Stage()
        task = self._bar.add_task(name, total=total)
        started = perf_counter()
        try:
            yield stage, lambda: self._bar.advance(task)
        finally:
            stage.seconds = perf_counter() - started


def _apply(work: Callable[[Any], Facts], task: tuple[str, Any]) -> Facts:
    """Runs in a worker."""
    return work(task[1])
