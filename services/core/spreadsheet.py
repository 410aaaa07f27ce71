"""Lines of CSV that a spreadsheet shows and never runs.

In: cells. Out: one line, quoted as RFC 4180 has it. Names and ids come from strangers, and programs that open CSV take
a cell that begins with `=` for a formula.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

STARTS_OF_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Their wide forms count, too."""


def csv_line(cells: Iterable[str | None]) -> str:
    """One line with its end. None is an empty cell."""
    buffer = io.StringIO()
    csv.writer(buffer).writerow("" if cell is None else harmless(cell) for cell in cells)
    return buffer.getvalue()


def harmless(cell: str) -> str:
    """A cell that is text to every spreadsheet."""
    return f"'{cell}" if cell.lstrip(" ").startswith(STARTS_OF_FORMULAS) else cell
