"""`pentimento annotate`: what differs between many forged images and their originals, without any server.

In: a CSV of pairs. Out: the folder of `results.py`, and a page to look at where `--report` asks for one. A bad file is
a line with `error`, never an aborted run; the exit status then is 1.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from services.cli.annotate_report import write_report
from services.cli.annotator import Annotation, Answer, Row, Setup, answers, worker_count
from services.cli.batch import OutOption, ResumeOption, finish, say_skipped
from services.cli.console import DataOption, note, policy_in, progress, settings_of, wrong_use
from services.cli.results import Results

WorkersOption = Annotated[int, typer.Option("--workers", min=0, help="Processes that share the work; 0: one a core.")]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, help="Threads of each worker's models; 0: torch decides, 1 if several work.")
]
FlipsOption = Annotated[
    bool, typer.Option("--flips/--no-flips", help="Average over mirror images: slower and a little better.")
]
ReportOption = Annotated[bool, typer.Option("--report", help="Write DIR/report.html: every pair in pictures.")]


def annotate(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.csv", help="Columns forged,original; relative to the file.")],
    out: OutOption,
    workers: WorkersOption = 1,
    threads: ThreadsOption = 0,
    flips: FlipsOption = True,
    resume: ResumeOption = False,
    report: ReportOption = False,
    data: DataOption = None,
) -> None:
    """Mark in forged images what differs from their originals, offline.

    Stopped at any time, the same command with --resume goes on.

    Example: pentimento annotate pairs.csv --out masks/ --workers 4 --resume --report
    """
    settings = settings_of(data)
    rows = read_pairs(pairs)
    setup = Setup(pairs.parent, policy_in(settings), settings.intake.max_bytes, flips, threads)
    with Results(out, key="forged", resume=resume) as results:
        done = {(line["forged"], line.get("original")) for line in results.earlier}
        todo = [row for row in rows if (row["forged"], row["original"]) not in done]
        say_skipped(len(rows) - len(todo))
        _annotate_all(setup, _Claims(rows, results), todo, worker_count(workers))
    if report:
        note(f"look at {write_report(out, rows, setup)}")
    finish(results, len(rows))


def read_pairs(file: Path) -> list[Row]:
    """The rows `{"forged", "original"}` of a CSV, each once. Wrong use where it is none."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened)
            missing = {"forged", "original"} - set(reader.fieldnames or ())
            if missing:
                raise wrong_use(f"{file} has no column {' and no column '.join(sorted(missing))}")
            pairs = dict.fromkeys((row["forged"] or "", row["original"] or "") for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise wrong_use(f"{file} cannot be read: {error}") from error
    return [{"forged": forged, "original": original} for forged, original in pairs]


class _Claims:
    """Which rows may write their mask: the first of each name. The others get a line with the reason."""

    def __init__(self, rows: Sequence[Row], results: Results) -> None:
        self.results = results
        self._original: dict[str, str] = {}
        for row in rows:
            self._original.setdefault(row["forged"], row["original"])

    def granted(self, rows: Sequence[Row], refused: Callable[[], None]) -> Iterator[Row]:
        """The rows that may, as they are asked for; `refused` is called for each of the others."""
        for row in rows:
            try:
                self._claim(row)
            except FileExistsError as error:
                self.results.add_error(row, error)
                refused()
            else:
                yield row

    def _claim(self, row: Row) -> None:
        self.results.claim(row["forged"])
        first = self._original[row["forged"]]
        if first != row["original"]:
            raise FileExistsError(f"its mask would replace the one against {first}: list it once, or copy the file")


def _annotate_all(setup: Setup, claims: _Claims, todo: Sequence[Row], workers: int) -> None:
    """Writes each row's result as it comes. Raises Broken, Unavailable."""
    with progress() as bar:
        task = bar.add_task("looking", total=len(todo))
        rows = claims.granted(todo, lambda: bar.advance(task))
        with closing(answers(setup, rows, workers)) as found:
            for row, answer in found:
                _record(claims.results, row, answer)
                bar.advance(task)


def _record(results: Results, row: Row, answer: Answer) -> None:
    """Writes a row's masks and line, or its error; a mask that cannot be written is one, too."""
    if not isinstance(answer, Annotation):
        results.add_error(row, answer)
        return
    try:
        results.add(answer.line, answer.mask, answer.original_mask)
    except OSError as error:
        results.add_error(row, error)
