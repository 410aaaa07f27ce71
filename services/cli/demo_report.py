"""What the demo leaves behind: a table, `verdicts.json`, and a picture per upload; and how it compares with the truth.

In: the samples, what `truth.json` says of them, the verdicts that came. Out: files and words. Misses are named, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from services.cli.console import write_lines, write_table, wrong_use
from services.cli.overlay import Panel, marked, sheet
from services.cli.verdicts import COLUMNS, verdict_cells
from services.core.errors import Rejected
from services.core.events import VerdictReached
from services.core.judge.mask import from_rle
from services.core.pixels import encode_png, open_image

Binary = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Truth:
    """What is known of a sample: which decisions are right, with which rejection code, and where it was edited."""

    about: str
    decisions: tuple[str, ...]
    rejection: str | None
    mask: Path | None

    def miss(self, verdict: VerdictReached) -> str | None:
        """How the verdict differs from what is right; None where it does not."""
        if verdict.decision.value not in self.decisions:
            return f"expected {' or '.join(self.decisions)}, got {verdict.decision.value}"
        if self.rejection is not None and verdict.reasons[0].code != self.rejection:
            return f"expected the rejection {self.rejection}, got {verdict.reasons[0].code}"
        return None


@dataclass(frozen=True, slots=True)
class Result:
    """A sample with its truth and every different verdict that came for it."""

    file: Path
    truth: Truth
    verdicts: tuple[VerdictReached, ...]

    @property
    def miss(self) -> str | None:
        """What is not as it should be; None where all is well."""
        if len(self.verdicts) != 1:
            return f"expected one verdict, got {len(self.verdicts)}"
        return self.truth.miss(self.verdicts[0])

    def mask_iou(self) -> float | None:
        """Intersection over union of the flagged region with the true one, 0..1; None where nothing was edited."""
        if self.truth.mask is None or not self.verdicts or self.verdicts[0].image is None:
            return None
        true = open_image(self.truth.mask.read_bytes()).rgb[..., 0] > 127
        mask = self.verdicts[0].mask
        found = np.zeros(true.shape, bool) if mask is None else from_rle(mask.rle).astype(bool)
        return float((found & true).sum() / (found | true).sum()) if found.shape == true.shape else None


def read_truths(samples: Path) -> dict[Path, Truth]:
    """What `truth.json` says, by upload. Wrong use where it says nothing of an upload or cannot be read."""
    file = samples / "truth.json"
    try:
        entries = json.loads(file.read_bytes())
        truths = {
            samples / entry["file"]: Truth(
                about=entry["about"],
                decisions=tuple(entry["decisions"]),
                rejection=entry["rejection"],
                mask=samples / entry["mask"] if entry["mask"] else None,
            )
            for entry in entries
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise wrong_use(f"{file} does not say what the samples are: {error!r}") from error
    return truths


def write_report(out: Path, results: Sequence[Result], samples: Path, *, as_json: bool) -> str:
    """Writes pictures and verdicts.json to `out`, the table or JSON lines to stdout. Returns what to say about it."""
    out.mkdir(parents=True, exist_ok=True)
    by_content = {sha256(path.read_bytes()).hexdigest(): path for path in _pictures(samples)}
    objects = [_as_json(result) for result in results]
    (out / "verdicts.json").write_text(json.dumps(objects, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for result in results:
        picture = out / f"{result.file.stem}.png"
        picture.unlink(missing_ok=True)  # of an earlier run
        if page := _page(result, by_content):
            picture.write_bytes(page)
    if as_json:
        write_lines(objects)
    else:
        write_table((*COLUMNS[:-1], "right", COLUMNS[-1]), (_cells(result) for result in results))
    return _words(results)


def _words(results: Sequence[Result]) -> str:
    """How many are right, and which are not."""
    misses = [f"{result.file.name} ({result.miss})" for result in results if result.miss]
    text = f"{len(results) - len(misses)} of {len(results)} uploads came out as expected"
    return f"{text}; not so: {'; '.join(misses)}." if misses else f"{text}."


def _cells(result: Result) -> tuple[str, ...]:
    if not result.verdicts:
        return (result.file.name, *[""] * (len(COLUMNS) - 2), "no", "no verdict came")
    cells = verdict_cells(result.verdicts[0])
    return (*cells[:-1], "no" if result.miss else "yes", cells[-1])


def _as_json(result: Result) -> dict[str, Any]:
    iou = result.mask_iou()
    return {
        "file": result.file.name,
        "about": result.truth.about,
        "expected": list(result.truth.decisions),
        "as_expected": result.miss is None,
        "miss": result.miss,
        "mask_iou": None if iou is None else round(iou, 4),
        "verdicts": [verdict.model_dump(mode="json", exclude_none=True) for verdict in result.verdicts],
    }


def _page(result: Result, by_content: Mapping[str, Path]) -> bytes | None:
    """The upload, the upload with what was flagged, and the original, as PNG; None where there is no picture."""
    if not result.verdicts or result.verdicts[0].image is None:
        return None
    verdict = result.verdicts[0]
    try:
        upload = open_image(result.file.read_bytes()).rgb
    except Rejected:  # then the verdict should have been one, too; the table says so
        return None
    panels = [Panel("upload", upload)]
    if verdict.mask is not None:
        binary = from_rle(verdict.mask.rle)
        panels.append(Panel("flagged" if binary.any() else "nothing flagged", marked(upload, binary)))
    if verdict.candidate is not None and verdict.candidate.sha256 in by_content:
        whose = "original" if verdict.candidate.trusted else "earlier upload"
        panels.append(Panel(whose, open_image(by_content[verdict.candidate.sha256].read_bytes()).rgb))
    return encode_png(sheet(panels, _caption(verdict)), level=6)


def _caption(verdict: VerdictReached) -> list[str]:
    score = "" if verdict.score is None else f", score {verdict.score:.2f}"
    head = f"{verdict.filename}: {verdict.decision.value.replace('_', ' ')} (path {verdict.path.value}{score})"
    return [head, " ".join(reason.text for reason in verdict.reasons)]


def _pictures(samples: Path) -> Iterable[Path]:
    for folder in ("originals", "uploads"):
        yield from sorted(path for path in (samples / folder).iterdir() if path.is_file())
