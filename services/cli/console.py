"""What every command shares: options, tables or JSON lines, progress bars, errors and exit statuses.

Results go to stdout, everything else to stderr. With `--json` a command writes JSON lines, one object a result, so that
they can be piped. Exit status: 0 done, 1 work failed, 2 wrong use.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from services.core.errors import PentimentoError
from services.core.policy import Policy
from services.settings import Settings, load_settings

EXIT_FAILED = 1
PIPE_WIDTH = 160  # characters of a line where nobody's terminal says how many
CELL_WIDTH, LAST_WIDTH = 36, 24

DataOption = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Data folder of the embedded stack, for its addresses.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON lines instead of a table.")]
TenantOption = Annotated[str, typer.Option("--tenant", help="Whose images these are.")]


class Commands(TyperGroup):
    """A group of commands whose expected errors end in one clear line and exit status 1, not in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except PentimentoError as error:
            fail(str(error))


def fail(message: str) -> NoReturn:
    """Say what failed, and end with exit status 1."""
    complain(message)
    raise typer.Exit(EXIT_FAILED)


def complain(message: str) -> None:
    """Say what failed, and go on."""
    notices().print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)


def note(message: str) -> None:
    """Say what is going on."""
    notices().print(escape(message), soft_wrap=True, highlight=False)


def notices() -> Console:
    """Where everything but results goes: stderr, looked up now, since tests and pipes replace it."""
    return Console(stderr=True)


def settings_of(data: Path | None) -> Settings:
    """The settings that are in force, or exit status 2 with the name of each variable that does not fit."""
    try:
        return load_settings(data)
    except ValidationError as error:
        raise wrong_use(f"the settings do not fit: {faults(error, 'PENTIMENTO_')}") from error


def policy_in(settings: Settings) -> Policy:
    """The policy that is in force, or exit status 2 with what is wrong with its file."""
    from services.opening import read_policy

    try:
        return read_policy(settings.policy)
    except OSError as error:
        raise wrong_use(f"the policy {settings.policy.file} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise wrong_use(f"{settings.policy.file} is no policy: {faults(error)}") from error


def wrong_use(message: str) -> typer.BadParameter:
    """The error to raise where the command was not asked for rightly: exit status 2."""
    return typer.BadParameter(message)


def write_lines(objects: Iterable[Any]) -> None:
    """JSON lines to stdout, each written at once, so that a reader at the other end of a pipe sees it."""
    for each in objects:
        sys.stdout.write(json.dumps(each, ensure_ascii=False) + "\n")
        sys.stdout.flush()


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table to stdout. Cells are plain text; the last column takes what is left of the line and breaks its text."""
    table = Table(header_style="bold", pad_edge=False, show_lines=False)
    for column in columns[:-1]:
        table.add_column(column, overflow="fold", max_width=CELL_WIDTH)
    table.add_column(columns[-1], min_width=LAST_WIDTH, ratio=1)
    for row in rows:
        table.add_row(*(Text(cell, style=_DECISION_COLOURS.get(cell, "")) for cell in row))
    Console(width=_width()).print(table)


def _width() -> int | None:
    """The terminal's, or what COLUMNS says; a file or a pipe gets lines long enough for every column."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH


def duration(seconds: float) -> str:
    """How long something lasted or is ago, in its two largest units: `3 d 4 h`, `2 h 5 min`, `1 min 40 s`, `7 s`."""
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"


def progress(*, hidden: bool = False) -> Progress:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    console = notices()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=hidden or not console.is_terminal,
        transient=True,
    )


_DECISION_COLOURS = {"manipulated": "red", "inconclusive": "yellow", "no_evidence": "green", "rejected": "magenta"}


def faults(error: ValidationError, prefix: str = "") -> str:
    """What does not fit and where, without the values: some of them are secrets."""
    faults = []
    for each in error.errors():
        name = "__".join(str(part) for part in each["loc"])
        faults.append(f"{prefix}{name.upper() if prefix else name}: {each['msg']}")
    return "; ".join(faults)
