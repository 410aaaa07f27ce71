"""Whether the wanted original is found, and whether geometry confirms it: by kind of change and by method.

In: photographs that nothing was fitted on, and all others at hand beside them in the index. Out: one `Sought` for each
upload and method. Verification and ranking are the service's own, on the first five that a method finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from bench.lookup.changes import CHANGES, Change, Pixels, Source
from bench.lookup.methods import Embedder, Index, Looks, looks, verified
from services.core.events import Candidate
from services.core.intake.lookup import Verified, features_of, rank, verify_features
from trainer.synthesis.photos import Photo, read_labels, read_rgb

NOBODY = "not registered"
PLAIN = Change(NOBODY, "saved again", lambda source, stranger, rng: source.rgb)
STRANGERS: tuple[Change, ...] = (PLAIN, *(each for each in CHANGES if each.name in ("mirrored", "edited area 20%")))
BATCH = 16  # pictures that are embedded together
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sought:
    """One upload and one method.

    `wanted` names the original, None where none is registered. `place` counts from 1, among the first ten before
    verification, None where it is not among them. `first` names the best verified candidate, if any; `others` are
    verified ones that are not the wanted one.
    """

    photo: str
    group: str
    change: str
    method: str
    wanted: str | None
    place: int | None
    first: str | None
    others: tuple[str, ...]

    @property
    def right(self) -> bool:
        """Whether the best verified candidate is the wanted one."""
        return self.first is not None and self.first == self.wanted


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload, of which photograph and how it was made, and its original where that is registered."""

    photo: Photo
    change: Change
    wanted: Photo | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Work:
    """What is sought among what. `registered` includes every `wanted`, and no `stranger`."""

    wanted: Sequence[Photo]
    strangers: Sequence[Photo]
    registered: Sequence[Photo]
    seed: int


def measured(work: Work, model: Embedder | None, *, workers: int, console: Console) -> list[Sought]:
    """Every upload by every method that there is."""
    cv2.setNumThreads(1)
    names = [photo.path.stem for photo in work.registered]
    index = Index(list(_registered(work.registered, model, console)))
    made = list(track(uploads(work), "uploads", total=_count(work), console=console))
    seen = [
        each
        for start in track(range(0, len(made), BATCH), "looks", console=console)
        for each in looks([upload.data for upload in made[start : start + BATCH]], model)
    ]
    found = [{method: index.found(each, method) for method in index.methods} for each in seen]
    first = [
        sorted({place for method, places in each.items() for place in places[: verified(method)]}) for each in found
    ]
    jobs = [(upload.data, [work.registered[p] for p in places]) for upload, places in zip(made, first, strict=True)]
    answers = track(_verified(jobs, workers), "verification", total=len(jobs), console=console)
    rows: list[Sought] = []
    for upload, look, by_method, places, fit_of in zip(made, seen, found, first, answers, strict=True):
        distances = index.distances(look.fingerprint.pdq)
        fits = {
            place: _candidate(names[place], fit, int(distances[place]))
            for place, fit in zip(places, fit_of, strict=True)
            if fit is not None
        }
        rows += [_sought(upload, method, by_method[method], fits, names) for method in index.methods]
    return rows


def uploads(work: Work) -> Iterator[Upload]:
    """Every photograph changed in every way that it allows, then strangers, whose original is not registered."""
    for photo in work.wanted:
        source = _source(photo)
        for number, change in enumerate(CHANGES):
            if change.outlines and source.labels is None:
                continue
            chance = _chance(photo, number, work.seed)
            data = change.upload(source, _stranger(work.strangers, photo, chance), chance)
            if data is not None:
                yield Upload(photo, change, photo, data)
    for photo in work.strangers:
        for number, change in enumerate(STRANGERS):
            chance = _chance(photo, number, work.seed)
            data = change.upload(_source(photo), _stranger(work.strangers, photo, chance), chance)
            if data is not None:
                yield Upload(photo, Change(NOBODY, change.name, change.make), None, data)


def _count(work: Work) -> int:
    """At most so many uploads."""
    outlined = sum(photo.labels is not None for photo in work.wanted)
    everywhere = sum(not change.outlines for change in CHANGES)
    donors = len(CHANGES) - everywhere
    return len(work.wanted) * everywhere + outlined * donors + len(work.strangers) * len(STRANGERS)


def _registered(photos: Sequence[Photo], model: Embedder | None, console: Console) -> Iterator[Looks]:
    for start in track(range(0, len(photos), BATCH), "index", console=console):
        yield from looks([photo.path.read_bytes() for photo in photos[start : start + BATCH]], model)


def _source(photo: Photo) -> Source:
    rgb = read_rgb(photo.path)
    return Source(rgb, None if photo.labels is None else read_labels(photo.labels, rgb.shape[:2]))


def _chance(photo: Photo, number: int, seed: int) -> np.random.Generator:
    """The same for a photograph and change, whatever else there is."""
    name = int.from_bytes(hashlib.sha256(photo.path.stem.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, number, name])


def _stranger(strangers: Sequence[Photo], photo: Photo, chance: np.random.Generator) -> Pixels:
    """A stranger's picture, of another photograph than this one."""
    others = [each for each in strangers if each.path != photo.path]
    return read_rgb(others[int(chance.integers(len(others)))].path)


def _verified(jobs: Sequence[tuple[bytes, list[Photo]]], workers: int) -> Iterator[tuple[Verified | None, ...]]:
    """What geometry says of each upload's pictures, in order."""
    if workers <= 1:
        yield from map(_verify, jobs)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(_verify, jobs, chunksize=8)


def _verify(job: tuple[bytes, list[Photo]]) -> tuple[Verified | None, ...]:
    cv2.setNumThreads(1)
    data, photos = job
    return verify_features(data, [_features(photo.path) for photo in photos]) if photos else ()


@cache
def _features(path: Path) -> bytes:
    """A registered photograph's local features, which are kept as the service keeps them."""
    return features_of(path.read_bytes())


def _sought(
    upload: Upload, method: str, found: Sequence[int], fits: dict[int, Candidate], names: Sequence[str]
) -> Sought:
    wanted = None if upload.wanted is None else upload.wanted.path.stem
    places = {names[place]: number for number, place in enumerate(found, 1)}
    ranked = rank(
        [fits[place] for place in found[: verified(method)] if place in fits], upload_sha256=_digest("upload")
    )
    confirmed = [each.original_id for each in ranked]
    return Sought(
        photo=upload.photo.path.stem,
        group=upload.change.group,
        change=upload.change.name,
        method=method,
        wanted=wanted,
        place=None if wanted is None else places.get(wanted),
        first=confirmed[0] if confirmed else None,
        others=tuple(name for name in confirmed if name != wanted),
    )


def _candidate(name: str, fit: Verified, distance: int) -> Candidate:
    """A trusted original: all are registered at the same time, so that what is ranked by is how they lie."""
    return Candidate(
        original_id=name,
        sha256=_digest(name),
        object_key=f"originals/{_digest(name)}",
        trusted=True,
        source="bench",
        registered_at=LONG_AGO,
        distance=distance,
        inliers=fit.inliers,
        overlap=fit.overlap,
        homography=fit.homography,
    )


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
