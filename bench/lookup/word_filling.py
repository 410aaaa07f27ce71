"""Words of drawn pictures into an index: as rows that are still to be packed, or as lists, as they are once they are.

In: words as often as they occur in photographs. Out: postings in the database, many at once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import psycopg
from rich.console import Console
from rich.progress import track

from services.core.intake.postings import EPOCH_BITS, POSTING
from services.core.intake.words import STORED

Integers = npt.NDArray[np.int64]

FAR = 2**40  # numbers of drawn pictures begin here, far from those of registered ones
CHUNK = 2000  # pictures, or words, that are loaded together
_HALF = 2**31  # places have a sign in the database

_SIGNATURE, _TRAILER = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"
_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(("length", ">i4"), ("key", ">i8")),
        *(("length2", ">i4"), ("seq", ">i8")),
        *(("length3", ">i4"), ("place", ">i4")),
    ]
)


@dataclass(frozen=True, slots=True)
class Filler:
    """Fills the space of a tenant, of the database at `url`, with `words` at places by chance."""

    url: str
    space: int
    words: Integers
    chance: np.random.Generator
    console: Console

    def rows(self, first: int, pictures: int) -> None:
        """Words of so many pictures, numbered from `first`, that are not packed; their index is built afterwards."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("drop index visual_word_of_key")
            for start in range(0, pictures, CHUNK):
                count = min(CHUNK, pictures - start)
                with connection.cursor().copy("copy visual_word (key, seq, place) from stdin (format binary)") as copy:
                    copy.write(_SIGNATURE + self._rows(first + start, count) + _TRAILER)
            connection.execute("set maintenance_work_mem = '2GB'")
            connection.execute("create index visual_word_of_key on visual_word (key) include (seq, place)")
            connection.execute("vacuum analyze visual_word")

    def lists(self, first: int, pictures: int) -> None:
        """Words of so many pictures, packed. `first` is a multiple of 2**32."""
        names, times = np.unique(self.words, return_counts=True)
        expected = pictures * STORED * times / times.sum()
        with psycopg.connect(self.url, autocommit=True) as connection:
            with connection.cursor().copy("copy packed_word (key, epoch, postings) from stdin (format binary)") as copy:
                copy.write(_SIGNATURE)
                for start in track(range(0, len(names), CHUNK), "lists", console=self.console):
                    end = start + CHUNK
                    for name, postings in self._lists(names[start:end], expected[start:end], pictures):
                        sizes = 3, 8, (self.space << 32) + name, 4, first >> EPOCH_BITS, len(postings)
                        copy.write(struct.pack(">hiqiii", *sizes) + postings)
                copy.write(_TRAILER)
            connection.execute("vacuum analyze packed_word")

    def _rows(self, first: int, count: int) -> bytes:
        rows = np.zeros(count * STORED, _ROW)
        rows["fields"], rows["length"], rows["length2"], rows["length3"] = 3, 8, 8, 4
        rows["key"] = (self.space << 32) + self.chance.choice(self.words, len(rows))
        rows["seq"] = np.repeat(np.arange(first, first + count), STORED)
        rows["place"] = self.chance.integers(-_HALF, _HALF, len(rows))
        return rows.tobytes()

    def _lists(self, names: Integers, expected: npt.NDArray[np.float64], pictures: int) -> Iterator[tuple[int, bytes]]:
        """The postings of each of the words, about as many as `expected`."""
        counts = self.chance.poisson(expected)
        numbers = self.chance.integers(0, pictures, counts.sum())
        ordered = np.sort(np.repeat(np.arange(len(names)), counts) << EPOCH_BITS | numbers)
        postings = np.empty(len(ordered), POSTING)
        postings["low"] = ordered & (2**EPOCH_BITS - 1)
        postings["place"] = self.chance.integers(-_HALF, _HALF, len(ordered))
        for name, part in zip(names.tolist(), np.split(postings, np.cumsum(counts)[:-1]), strict=True):
            yield name, part.tobytes()
