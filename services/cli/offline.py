"""`pentimento mask`: masks for many images without any server, in a form that anyone can score.

In: images, and originals where there are some. Out: the folder of `results.py`. A bad file is a line with `error`,
never an aborted run; the exit status then is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from services.cli.batch import BAD_FILE, OutOption, ResumeOption, ThreadsOption, each, read_file
from services.cli.console import DataOption, note, policy_in, progress, settings_of
from services.cli.library import Library
from services.cli.looking import Looked, Models, look, look_alone
from services.cli.results import Results
from services.cli.sources import FileSource, files
from services.core.evidence import NOTES
from services.core.judge.route import Compare, route
from services.core.policy import Policy
from services.settings import Settings

Judge = Callable[[FileSource], tuple[dict[str, Any], Looked]]


def mask(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Images, or folders of them.")],
    out: OutOption,
    originals: Annotated[
        Path | None, typer.Option("--originals", metavar="DIR", help="Originals that the images may be made from.")
    ] = None,
    threads: ThreadsOption = 0,
    resume: ResumeOption = False,
    data: DataOption = None,
) -> None:
    """Find what was manipulated in images, offline.

    With --originals each image is first looked up among them, as the stream would do it.

    Example: pentimento mask photos/*.jpg --out masks/ --originals library/
    """
    settings = settings_of(data)
    policy = policy_in(settings)
    chosen = files(images, missing=True)
    models = Models("unconstrained", *(["constrained"] if originals else []), threads=threads)
    with Results(out, key="image", resume=resume) as results:
        judge = (
            _blind(models, policy, settings)
            if originals is None
            else _with_originals(models, policy, _library(originals, settings, results), settings)
        )

        noted: Counter[str] = Counter()

        def one(source: FileSource) -> None:
            started = perf_counter()
            results.claim(str(source.path))
            extra, looked = judge(source)
            line = {
                "image": str(source.path),
                "score": round(looked.outcome.score, 6),
                "decision": looked.outcome.decision.value,
                "area": round(looked.area, 6),
                "seconds": round(perf_counter() - started, 4),
                "model": looked.model,
                "notes": list(looked.outcome.notes),
                **extra,
            }
            results.add(line, looked.mask)
            noted.update(looked.outcome.notes)

        todo = [source for source in chosen if str(source.path) not in results.done]
        try:
            each(todo, one, lambda source: {"image": str(source.path)}, results, skipped=len(chosen) - len(todo))
        finally:
            _say_notes(noted)


def _say_notes(noted: Counter[str]) -> None:
    """What the answers did not rest on, and in how many images; nothing where nothing was missing."""
    for slug, count in sorted(noted.items()):
        note(f"{slug} ({count} image{'' if count == 1 else 's'}): {NOTES.get(slug, '')}")


def _blind(models: Models, policy: Policy, settings: Settings) -> Judge:
    """Each image alone."""

    def judge(source: FileSource) -> tuple[dict[str, Any], Looked]:
        return {}, look_alone(models, read_file(source.path, settings.intake.max_bytes), policy)

    return judge


def _with_originals(models: Models, policy: Policy, library: Library, settings: Settings) -> Judge:
    """Each image by the path that lookup chooses for it."""

    most = settings.intake.max_bytes

    def judge(source: FileSource) -> tuple[dict[str, Any], Looked]:
        upload = read_file(source.path, most)
        intake = library.intaken(source.name, upload)
        way = route(intake, policy)
        original = read_file(library.path_of(way.candidate), most) if isinstance(way, Compare) else None
        looked = look(models, upload, intake, original, policy)
        candidate = looked.outcome.candidate
        compared = None if candidate is None else str(library.path_of(candidate))
        return {"path": looked.outcome.path.value, "original": compared}, looked

    return judge


def _library(folder: Path, settings: Settings, results: Results) -> Library:
    """The folder's pictures, registered. A bad one is a line, too."""
    library = Library(settings.intake)
    pictures = files([folder])
    with progress() as bar:
        task = bar.add_task("registering originals", total=len(pictures))
        for picture in pictures:
            try:
                library.register(picture.path, read_file(picture.path, settings.intake.max_bytes))
            except BAD_FILE as error:
                results.add_error({"original": str(picture.path)}, error)
            bar.advance(task)
    return library
