"""`pentimento mask` and `annotate`: masks for many images without any server, in a form that anyone can score.

In: images, or a CSV of pairs. Out: the folder of `results.py`. A bad file is a line with `error`, never an aborted
run; the exit status then is 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, TypeVar

import typer

from services.cli.console import DataOption, fail, note, policy_in, progress, settings_of, wrong_use
from services.cli.library import Library
from services.cli.looking import Looked, Models, look, look_alone, model_name
from services.cli.results import RESULTS, Results
from services.cli.sources import FileSource, files
from services.core.errors import PentimentoError, Rejected
from services.core.judge.route import Compare, route
from services.core.policy import Policy
from services.settings import Settings

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for masks and results.jsonl.")]
ThreadsOption = Annotated[int, typer.Option("--threads", min=0, help="Threads of the models; 0: torch decides.")]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on: skip what has a line in results.jsonl.")]

BAD_FILE = (PentimentoError, OSError)
"""What a single file can raise: rejected, unreadable, or our own bug with just this one."""

Judge = Callable[[FileSource], tuple[dict[str, Any], Looked]]
T = TypeVar("T")


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
                **extra,
            }
            results.add(line, looked.mask)

        todo = [source for source in chosen if str(source.path) not in results.done]
        _each(todo, one, lambda source: {"image": str(source.path)}, results, skipped=len(chosen) - len(todo))


def annotate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Columns forged,original; relative to the file.")],
    out: OutOption,
    threads: ThreadsOption = 0,
    resume: ResumeOption = False,
    data: DataOption = None,
) -> None:
    """Mark in forged images what differs from their originals, offline.

    Example: pentimento annotate pairs.csv --out masks/ --resume
    """
    settings = settings_of(data)
    policy = policy_in(settings)
    rows = read_pairs(pairs)
    models = Models("constrained", threads=threads)
    with Results(out, key="forged", resume=resume) as results:

        def one(row: dict[str, str]) -> None:
            started = perf_counter()
            results.claim(row["forged"])
            upload, original = (_read(pairs.parent / row[name], settings) for name in ("forged", "original"))
            analysis = models.constrained(upload, original)
            line = {
                **row,
                "kind": analysis.kind,
                "qes": round(analysis.qes, 6),
                "kept": analysis.kind != "unrelated" and analysis.qes >= policy.least_qes,
                "inliers": analysis.inliers,
                "seconds": round(perf_counter() - started, 4),
                "model": model_name(analysis),
            }
            results.add(line, analysis.mask)

        todo = [row for row in rows if row["forged"] not in results.done]
        _each(todo, one, dict, results, skipped=len(rows) - len(todo))


def read_pairs(file: Path) -> list[dict[str, str]]:
    """The rows `{"forged", "original"}` of a CSV. Wrong use where it is none."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            missing = {"forged", "original"} - set(reader.fieldnames or ())
            if missing:
                raise wrong_use(f"{file} has no column {' and no column '.join(sorted(missing))}")
            return [{name: row[name] or "" for name in ("forged", "original")} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong_use(f"{file} cannot be read: {error}") from error


def _each(
    todo: Sequence[T], one: Callable[[T], None], named: Callable[[T], dict[str, Any]], results: Results, *, skipped: int
) -> None:
    """Does one after the other with a progress bar, a bad file as a line with its error; fails at the end if any was.

    `named` gives the fields that say which file a line is about.
    """
    if skipped:
        note(f"{skipped} have a line in {RESULTS} already")
    with progress() as bar:
        task = bar.add_task("looking", total=len(todo))
        for each in todo:
            try:
                one(each)
            except BAD_FILE as error:
                results.add_error(named(each), error)
            bar.advance(task)
    if results.errors:
        fail(f"{results.errors} of {len(todo) + skipped} files have no result: see the lines with `error` in {RESULTS}")


def _blind(models: Models, policy: Policy, settings: Settings) -> Judge:
    """Each image alone."""

    def judge(source: FileSource) -> tuple[dict[str, Any], Looked]:
        return {}, look_alone(models, _read(source.path, settings), policy)

    return judge


def _with_originals(models: Models, policy: Policy, library: Library, settings: Settings) -> Judge:
    """Each image by the path that lookup chooses for it."""

    def judge(source: FileSource) -> tuple[dict[str, Any], Looked]:
        upload = _read(source.path, settings)
        intake = library.intaken(source.name, upload)
        way = route(intake, policy)
        original = _read(library.path_of(way.candidate), settings) if isinstance(way, Compare) else None
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
                library.register(picture.path, _read(picture.path, settings))
            except BAD_FILE as error:
                results.add_error({"original": str(picture.path)}, error)
            bar.advance(task)
    return library


def _read(path: Path, settings: Settings) -> bytes:
    """A file's bytes. Raises OSError, and Rejected where there are too many."""
    size = path.stat().st_size
    if size > settings.intake.max_bytes:
        raise Rejected("too_large", f"{size} bytes are more than PENTIMENTO_INTAKE__MAX_BYTES allows")
    return path.read_bytes()
