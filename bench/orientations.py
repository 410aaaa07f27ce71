"""`python -m bench.orientations PHOTOS`: what it costs, and what it finds, to seek pictures in several orientations.

In: a folder of photographs. Out: Markdown on stdout, the figures of decision 0015: how many edited copies in each
orientation are near their original by PDQ, how many strangers are, what geometry says of both, and the time of
`Candidates.nearest` on an embedded PostgreSQL filled with random hashes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt
import psycopg

from bench.__main__ import machine, say
from services.clients.candidates import LEAST_QUALITY, Candidates
from services.clients.database import Database
from services.core.events import Fingerprint
from services.core.intake.fingerprint import MAX_DISTANCE, SIDE, distance, fingerprint, orientations
from services.core.intake.lookup import verify
from services.core.pixels import Picture, open_image
from services.local.postgres import Postgres

Pixels = npt.NDArray[np.uint8]

WAYS = (1, 2, 4, 8)
EDITED = 200  # photographs that are edited and turned
LOOKUPS = 100  # queries that are timed
LIMIT = 6  # candidates asked for, as the stream does
SEED = 20261124

TURNS: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda rgb: rgb,
    "flipped left to right": lambda rgb: rgb[:, ::-1],
    "flipped upside down": lambda rgb: rgb[::-1],
    "turned by 180 degrees": lambda rgb: rgb[::-1, ::-1],
    "axes swapped": lambda rgb: rgb.swapaxes(0, 1),
    "turned by 90 degrees": lambda rgb: rgb.swapaxes(0, 1)[:, ::-1],
    "turned by 270 degrees": lambda rgb: rgb.swapaxes(0, 1)[::-1],
    "axes swapped, turned by 180": lambda rgb: rgb.swapaxes(0, 1)[::-1, ::-1],
}
"""In the order of `fingerprint.orientations`, but that a quarter turn is undone by the other one."""


def main() -> int:
    """Entry point. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.orientations", description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photographs, searched in depth")
    parser.add_argument("--rows", type=int, default=20_000, help="registered pictures that lookups are timed with")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    say(f"hashing {len(paths)} photographs")
    known = [(path, found) for path in paths if (found := hashed(opened(path))).pdq_quality >= LEAST_QUALITY]
    print(f"{machine()}; {len(known)} photographs, {options.rows} random hashes\n")
    for line in itertools.chain(copies(known), strangers(known), asyncio.run(times(options.rows))):
        print(line, flush=True)
    return 0


def opened(path: Path) -> Picture:
    """A photograph at the size at which it is hashed."""
    return open_image(path.read_bytes(), max_side=SIDE)


def hashed(picture: Picture) -> Fingerprint:
    """Without the quantisation tables, which do not matter here."""
    return fingerprint(replace(picture, jpeg_quantisation=None))


def edits(rgb: Pixels, donor: Pixels) -> dict[str, Pixels]:
    """What people do to a picture [H,W,3]: nothing, cut off a twentieth at each side, paste something over a fifth."""
    height, width = rgb.shape[:2]
    y, x = height // 20, width // 20
    spliced = rgb.copy()
    side = round(0.2**0.5 * height), round(0.2**0.5 * width)
    spliced[y : y + side[0], x : x + side[1]] = cv2.resize(donor, side[::-1], interpolation=cv2.INTER_AREA)
    return {"saved again": rgb, "cropped by 10 %": rgb[y : height - y, x : width - x], "a fifth spliced": spliced}


def copies(known: Sequence[tuple[Path, Fingerprint]]) -> Iterator[str]:
    """Shares of edited copies that are near their original, and that geometry confirms among those."""
    chosen = known[:: max(1, len(known) // EDITED)][:EDITED]
    say(f"editing {len(chosen)} photographs")
    bits: dict[tuple[str, str], list[list[int]]] = {}
    confirmed: dict[str, list[bool]] = {}
    for number, (path, original) in enumerate(chosen):
        donor = opened(known[(7919 * number + 13) % len(known)][0]).rgb
        for edit, edited in edits(opened(path).rgb, donor).items():
            for turn, turned in TURNS.items():
                _, data = cv2.imencode(".jpg", turned(edited)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
                ways = orientations(hashed(open_image(data.tobytes())).pdq)
                bits.setdefault((edit, turn), []).append([distance(way, original.pdq) for way in ways])
                if edit == "a fifth spliced" and number % 4 == 0:
                    found = verify(data.tobytes(), [path.read_bytes()])[0]
                    confirmed.setdefault(turn, []).append(found is not None)
    heads = [f"{edit}, {ways}" for edit in dict.fromkeys(edit for edit, _ in bits) for ways in WAYS]
    yield f"Share of {len(chosen)} copies within {MAX_DISTANCE} bits, by edit and orientations sought:\n"
    yield f"| the copy is | bits moved | {' | '.join(heads)} | confirmed |"
    yield "|---|" + "---|" * (len(heads) + 2)
    for turn in TURNS:
        moved = np.mean([min(row) for row in bits["saved again", turn]])
        shares = [
            np.mean([min(row[:ways]) <= MAX_DISTANCE for row in rows])
            for (_, each), rows in bits.items()
            if each == turn
            for ways in WAYS
        ]
        cells = " | ".join(f"{share:.0%}" for share in shares)
        yield f"| {turn} | {moved:.0f} | {cells} | {sum(confirmed[turn])} of {len(confirmed[turn])} |"


def strangers(known: Sequence[tuple[Path, Fingerprint]]) -> Iterator[str]:
    """Pairs of different photographs that are near, and what geometry says of those."""
    say("comparing strangers")
    hashes = np.array([[_signs(way) for way in orientations(each.pdq)] for _, each in known])
    first, second = np.triu_indices(len(known), 1)
    apart = np.stack([(256 - hashes[:, way] @ hashes[:, 0].T) / 2 for way in range(8)])[:, first, second]
    yield f"\nOf {len(first):,} pairs of different photographs, by orientations sought:\n"
    yield f"| orientations | within {MAX_DISTANCE} bits | a million pairs | confirmed by geometry |"
    yield "|---|---|---|---|"
    said: dict[int, bool] = {}
    for ways in WAYS:
        near = np.flatnonzero(apart[:ways].min(axis=0) <= MAX_DISTANCE).tolist()
        for pair in near:
            if pair not in said:
                paths = known[first[pair]][0], known[second[pair]][0]
                said[pair] = verify(paths[0].read_bytes(), [paths[1].read_bytes()])[0] is not None
        wrong = sum(said[pair] for pair in near)
        yield f"| {ways} | {len(near)} | {1e6 * len(near) / len(first):.1f} | {wrong} |"


def _signs(pdq: str) -> npt.NDArray[np.float32]:
    return np.unpackbits(np.frombuffer(bytes.fromhex(pdq), np.uint8)).astype(np.float32) * 2 - 1


async def times(rows: int) -> Iterator[str]:
    """Milliseconds of `Candidates.nearest`, by orientations, and whether it finds a picture 60 bits away."""
    with server() as postgres:
        database = await Database.open(postgres.dsn, pool_size=1, timeout_s=20)
        try:
            await database.migrate()
            say(f"filling the index with {rows} hashes")
            hashes = filled(postgres.dsn, rows)
            return iter(await _timed(Candidates(database), hashes))
        finally:
            await database.close()


@contextmanager
def server() -> Iterator[Postgres]:
    """An embedded PostgreSQL that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pentimento-bench-") as folder:
        postgres = Postgres(Path(folder) / "postgres")
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


def filled(dsn: str, rows: int) -> list[str]:
    """Random hashes, registered: half of them trusted, a thousandth with a small tenant. Returns the large one's."""
    chance = np.random.default_rng(SEED)
    hashes = [chance.bytes(32).hex() for _ in range(rows)]
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "insert into content values (%(pdq)s, 'k', 1, 1, 1, 'PNG', %(pdq)s, 100)", [{"pdq": pdq} for pdq in hashes]
        )
        cursor.executemany(
            "insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality) "
            "values (%s, %s, %s, 'id', 'library', now(), %s::bit(256), 100)",
            [
                ("large" if number % 1000 else "small", pdq, number % 2 == 0, f"{int(pdq, 16):0256b}")
                for number, pdq in enumerate(hashes)
            ],
        )
        connection.commit()
        connection.autocommit = True
        cursor.execute("vacuum analyze candidate")
    return [pdq for number, pdq in enumerate(hashes) if number % 1000]


async def _timed(candidates: Candidates, hashes: Sequence[str]) -> list[str]:
    chance = np.random.default_rng(SEED + 1)
    lines = [
        f"\n`Candidates.nearest`, {LOOKUPS} lookups each:\n",
        "| tenant | orientations | median | 95th percentile | found a copy 60 bits away in one of the eight |",
        "|---|---|---|---|---|",
    ]
    for tenant in ("large", "small"):
        seconds: dict[int, list[float]] = {ways: [] for ways in WAYS}
        found = dict.fromkeys(WAYS, 0)
        for number in range(LOOKUPS):
            target = hashes[int(chance.integers(len(hashes)))]
            changed = int(target, 16) ^ sum(1 << int(bit) for bit in chance.choice(256, 60, replace=False))
            upload = Fingerprint(pdq=orientations(f"{changed:064x}")[number % 8], pdq_quality=100)
            for ways in WAYS:
                began = perf_counter()
                near = await candidates.nearest(tenant, upload, max_distance=MAX_DISTANCE, limit=LIMIT, ways=ways)
                seconds[ways].append(perf_counter() - began)
                found[ways] += any(each.picture.fingerprint.pdq == target for each in near)
        for ways in WAYS:
            late = quantiles(seconds[ways], n=20)[-1]
            hits = f"{found[ways]} of {LOOKUPS}" if tenant == "large" else "none is its own"
            lines.append(f"| {tenant} | {ways} | {1e3 * median(seconds[ways]):.1f} ms | {1e3 * late:.1f} ms | {hits} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
