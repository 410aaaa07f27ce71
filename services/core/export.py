"""Verdicts as rows of a table, for spreadsheets and programs.

In: a verdict. Out: a flat row, the same for CSV and JSON lines. What users sent (ids, file names) is never a formula: a
spreadsheet that opens the file must not run what an uploader wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from services.core.events import VerdictReached
from services.core.spreadsheet import csv_line

COLUMNS: Final = (
    "tenant", "upload_id", "revision", "decision", "path", "score", "flagged_area", "qes", "reasons", "original_id",
    "original_trusted", "filename", "sha256", "width", "height", "format", "models", "policy_version", "uploaded_at",
    "judged_at", "cursor",
)  # fmt: skip

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
    return csv_line(COLUMNS)


def line(values: Mapping[str, Value]) -> str:
    """A row as a line of CSV, harmless in spreadsheets."""
    return csv_line(None if values[column] is None else str(values[column]) for column in COLUMNS)
