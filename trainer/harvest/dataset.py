"""The data set that a harvest leaves: images, masks, a manifest with provenance, and what was dropped and why.

In: rows with their fates. Out: `images/` by content, `masks/` (8-bit grey PNG, 0..255 = probability), `manifest.jsonl`
and the same as `manifest.csv`, which `trainer.sets` reads, `dropped.jsonl`, `statistics.json`, and `shards/` where they
are wanted. The folder is what its manifest says: what an earlier run wrote and this one does not name is removed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trainer.harvest.journal import replace_file
from trainer.harvest.rows import Row, count, provenance
from trainer.harvest.run import Harvest, Stage
from trainer.harvest.sources import is_url
from trainer.tables import AREAS, bin_name

MANIFEST, DROPPED, STATISTICS = "manifest.jsonl", "dropped.jsonl", "statistics.json"
QES_BINS = 10
MOST_NAMED = 20  # licences and hosts that the statistics name, most frequent first

Line = dict[str, Any]

COLUMNS = (
    "id", "forged", "mask", "original", "original_mask", "kind", "qes", "score", "area", "inliers", "width", "height",
    "url", "licence", "author", "page", "sha256", "fetched_at", "fetched_from", "original_url", "original_licence",
    "original_author", "original_page", "original_sha256", "original_fetched_at", "original_fetched_from", "annotator",
    "row",
)  # fmt: skip
"""What a line of the manifest says, in order."""


def write_dataset(out: Path, rows: Sequence[Row], harvest: Harvest) -> Line:
    """Writes everything but shards and page, from what a harvest left. Returns the statistics. Raises OSError."""
    store, masks = harvest.store, harvest.plan.masks
    kept = [_line(row) for row in rows if row.fate == "kept"]
    named: set[Path] = set()
    for line in kept:
        for field, digest in (("forged", line["sha256"]), ("original", line["original_sha256"])):
            named.add(_linked(store.path(digest), out / line[field]))
        named.add(_linked(masks / f"{line['id']}.png", out / line["mask"]))
        if line["original_mask"]:
            named.add(_linked(masks / f"{line['id']}-original.png", out / line["original_mask"]))
    _remove_others(out, ("images", "masks"), named)
    replace_file(out / MANIFEST, _json_lines(kept))
    replace_file(out / "manifest.csv", _csv(kept))
    replace_file(out / DROPPED, _json_lines(_dropped(row) for row in rows if row.fate != "kept"))
    figures = statistics(rows, kept, harvest.stages) | {"originals_to_choose_from": harvest.originals}
    replace_file(out / STATISTICS, (json.dumps(figures, indent=2, ensure_ascii=False) + "\n").encode())
    return figures


def statistics(rows: Sequence[Row], kept: Sequence[Line], stages: Mapping[str, Stage]) -> Line:
    """The figures of a harvest as JSON values. Times are those of this run."""
    annotated = [row.annotation for row in rows if row.annotation]
    differing = [said["qes"] for said in annotated if said["kind"] != "unrelated" and said["area"]]
    tenths = Counter(min(int(value * QES_BINS), QES_BINS - 1) for value in differing)
    areas = Counter(bin_name(AREAS, line["area"]) for line in kept)
    return {
        "rows": len(rows),
        "fates": count(rows),
        "kinds": dict(Counter(line["kind"] for line in kept)),
        "originals": len({line["original_sha256"] for line in kept}),
        "qes": {f"{tenth / QES_BINS:.1f}": tenths[tenth] for tenth in range(QES_BINS)},
        "area_of_kept": {name: areas[name] for _, _, name in AREAS},
        "licences": _most(line["licence"] or "not said" for line in kept),
        "hosts": _most(urlsplit(line["url"]).hostname or "" if is_url(line["url"]) else "a file" for line in kept),
        "annotators": sorted({said["annotator"] for said in annotated}),
        "stages": {
            name: {
                "done": stage.done,
                "seconds": round(stage.seconds, 3),
                "per_hour": None if stage.per_hour is None else round(stage.per_hour),
            }
            for name, stage in stages.items()
        },
    }


def write_shards(out: Path, pairs_each: int) -> list[Path]:
    """The kept pairs once more as WebDataset shards: `<id>.forged.jpg`, `.mask.png`, `.original.jpg`, `.json`.

    The same pairs give the same bytes. Raises OSError.
    """
    lines = read_lines(out / MANIFEST)
    folder = out / "shards"
    folder.mkdir(exist_ok=True)
    written = []
    for number, start in enumerate(range(0, len(lines), pairs_each)):
        shard = folder / f"{number:06d}.tar"
        unfinished = shard.with_suffix(".part")
        with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as archive:
            for line in lines[start : start + pairs_each]:
                for part in ("forged", "mask", "original", "original_mask"):
                    if line[part]:
                        file = out / line[part]
                        _add(archive, f"{line['id']}.{part}{file.suffix}", file.read_bytes())
                _add(archive, f"{line['id']}.json", json.dumps(line, ensure_ascii=False).encode())
        written.append(unfinished.replace(shard))
    _remove_others(out, ("shards",), set(written))
    return written


def read_lines(file: Path) -> list[Line]:
    """The lines of a manifest. Raises OSError, ValueError."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def _line(row: Row) -> Line:
    said, seen = row.annotation, row.forged
    key = said["key"]
    known = {
        "id": key,
        "forged": _image(row.forged),
        "mask": f"masks/{key}.png",
        "original": _image(row.original),
        "original_mask": f"masks/{key}-original.png" if said["original_mask"] else None,
        "width": seen["width"],
        "height": seen["height"],
        **{name: said[name] for name in ("kind", "qes", "score", "area", "inliers", "annotator")},
        **provenance(row),
    }
    return {name: known.get(name) for name in COLUMNS}


def _dropped(row: Row) -> Line:
    said = {name: row.annotation[name] for name in ("kind", "qes", "area", "annotator") if row.annotation}
    return {"fate": row.fate, "why": row.why, **provenance(row), **said}


def _image(facts: Mapping[str, Any]) -> str:
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(facts["format"], facts["format"].lower())
    return f"images/{facts['sha256']}.{suffix}"


def _linked(source: Path, target: Path) -> Path:
    """Has the file at `target`, too, without a second copy on disk where the two are on one file system."""
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f".{target.name}")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:
        shutil.copyfile(source, unfinished)
    return unfinished.replace(target)


def _remove_others(out: Path, folders: Iterable[str], named: set[Path]) -> None:
    for folder in folders:
        (out / folder).mkdir(exist_ok=True)
        for file in (out / folder).iterdir():
            if file not in named:
                file.unlink()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owned by nobody, of no date
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _json_lines(lines: Iterable[Line]) -> bytes:
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()


def _csv(lines: Iterable[Line]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue().encode()


def _most(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common(MOST_NAMED))
