"""Verdicts as rows of a table, for spreadsheets and programs.

In: a verdict. Out: a flat row, the same for CSV and JSON lines. What users sent (ids, file names) is never a formula: a
spreadsheet that opens the file must not run what an uploader wrote.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Final

from services.core.events import VerdictReached

COLUMNS: Final = (
    "tenant", "upload_id", "revision", "decision", "path", "score", "flagged_area", "qes", "reasons", "original_id",
    "original_trusted", "filename", "sha256", "width", "height", "format", "models", "policy_version", "uploaded_at",
    "judged_at", "cursor",
)  # fmt: skip
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

Value = str | int | float | bool | None


def row(verdict: VerdictReached, cursor: str) -> dict[str, Value]:
    """A verdict's facts by `COLUMNS`. `cursor` is where an export goes on that ends after this row."""
    image, mask, candidate = verdict.image, verdict.mask, verdict.candidate
    return {
        "tenant": verdict.tenant,
        "upload_id": verdict.upload_id,
        "revision": verdict.revision,
        "decision": verdict.decision.value,
        "path": verdict.path.value,
        "score": verdict.score,
        "flagged_area": None if mask is None else mask.area,
        "qes": None if mask is None else mask.qes,
        "reasons": " ".join(reason.code for reason in verdict.reasons),
        "original_id": None if candidate is None else candidate.original_id,
        "original_trusted": None if candidate is None else candidate.trusted,
        "filename": verdict.filename,
        "sha256": None if image is None else image.sha256,
        "width": None if image is None else image.width,
        "height": None if image is None else image.height,
        "format": None if image is None else image.format,
        "models": " ".join(f"{model.name}@{model.version}" for model in verdict.models),
        "policy_version": verdict.policy_version,
        "uploaded_at": verdict.uploaded_at.isoformat(),
        "judged_at": verdict.judged_at.isoformat(),
        "cursor": cursor,
    }


def heading() -> str:
    """The first line of a CSV file."""
    return _line(COLUMNS)


def csv_line(values: Mapping[str, Value]) -> str:
    """A row as a line of CSV (RFC 4180), harmless in spreadsheets."""
    return _line([harmless(values[column]) for column in COLUMNS])


def harmless(value: Value) -> Value:
    """A text that a spreadsheet would take for a formula, with an apostrophe before it; anything else as it is."""
    if isinstance(value, str) and value.lstrip(" ").startswith(FORMULAS):
        return f"'{value}"
    return value


def _line(values: list[Value] | tuple[str, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(["" if value is None else value for value in values])
    return text.getvalue()
