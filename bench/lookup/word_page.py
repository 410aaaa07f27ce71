"""The section of `docs/lookup.md` about visual words at size: figures in, Markdown out. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.lookup.methods import WORD_PLACES
from bench.lookup.page import Setting, measured_by, table
from bench.lookup.word_scale import SHARED, WANTED, WordScale
from services.clients.words import BUDGET
from services.core.intake.words import CELLS, SOUGHT, STORED


def word_section(rows: Sequence[WordScale], setting: Setting) -> str:
    """What visual words cost."""
    sizes = [f"{row.originals:,}" for row in rows]
    asked = len(rows[0].database_s)
    much, little = SHARED
    unpacked = ", ".join(f"{row.unpacked:,}" for row in rows)
    return "\n\n".join(
        (
            "## What visual words cost",
            measured_by(setting),
            f"An original keeps {STORED} words, an upload is sought by {SOUGHT} features of {CELLS} words each, of "
            f"which {BUDGET:,} postings are read at most, the rarest words first. Words are drawn one by one from "
            f"those of the photographs, places evenly. The words of {unpacked} originals are not packed yet, as many "
            "as that are at most. "
            f"{asked} searches a size, for {WANTED} wanted pictures that lie among the "
            f"others and share {much} or {little} features with the upload at places that agree. Seeing the words of "
            "an upload comes on top: some 0.2 s on one core.",
            table(
                ("", *sizes),
                [
                    ["the database's part, p50 / p95, ms", *(_ms(row.database_s) for row in rows)],
                    ["counting who agrees, p50 / p95, ms", *(_ms(row.agreement_s) for row in rows)],
                    *(
                        [
                            f"found among {WORD_PLACES}, {kept} features shared",
                            *(f"{row.found[kept]:.0%}" for row in rows),
                        ]
                        for kept in SHARED
                    ),
                    ["loaded by COPY", *(f"{row.load_s:.0f} s" for row in rows)],
                    ["packed", *("drawn as lists" if row.pack_s is None else f"{row.pack_s:.0f} s" for row in rows)],
                    ["added one at a time", *(f"{row.added_per_s:.0f}/s" for row in rows)],
                    *(
                        [f"disk, {name}", *(f"{row.bytes_of[name] / 1e6:,.0f} MB" for row in rows)]
                        for name in rows[0].bytes_of
                    ),
                    ["disk, which words a picture has, bytes each", *(f"{row.worded_bytes:,}" for row in rows)],
                    ["all processes of the server (PSS)", *(f"{row.server_bytes / 1e6:,.0f} MB" for row in rows)],
                ],
            ),
        )
    )


def _ms(seconds: Sequence[float]) -> str:
    p50, p95 = np.percentile(seconds, (50, 95)) * 1000
    return f"{p50:.0f} / {p95:.0f}"
