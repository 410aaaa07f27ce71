"""Registered pictures that nobody took: hashes and vectors by chance, as many as an index is to hold.

In: a number, a seed, and how real hashes and vectors are spread where photographs are at hand. Out: arrays, always the
same, so that an index that was filled once can be searched again, and exact answers computed beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.core.intake.regions import REGIONS, STORED

LENGTH = 64  # numbers of a vector
COPY_SIMILARITY = 0.85  # cosine of a sought region and that of its original
COPY_DISTANCE = 60  # bits between the hashes of an upload and of its original
SURE = 3.0  # standard errors from which on a correlation of two bits is taken for one
CHUNK = 50_000  # rows that are drawn, or compared, at once

Halves = npt.NDArray[np.float16]
Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Spread:
    """How vectors are spread: `mean` [D] and `root` [D,D], whose product with itself is their covariance."""

    mean: npt.NDArray[np.float64]
    root: npt.NDArray[np.float64]
    origin: str

    @classmethod
    def even(cls) -> Spread:
        """In all directions alike."""
        return cls(np.zeros(LENGTH), np.eye(LENGTH), "in all directions alike, for want of an embedder")

    @classmethod
    def of(cls, vectors: Floats, origin: str) -> Spread:
        """That of real vectors [N,D]."""
        values, axes = np.linalg.eigh(np.cov(vectors, rowvar=False))
        return cls(vectors.mean(axis=0, dtype=np.float64), (axes * np.sqrt(values.clip(min=0))) @ axes.T, origin)

    def draw(self, count: int, chance: np.random.Generator) -> Floats:
        """[count,D] float32 of length 1."""
        drawn = chance.standard_normal((count, len(self.mean))) @ self.root + self.mean
        return unit(drawn)


@dataclass(frozen=True, slots=True)
class HashSpread:
    """How the bits of hashes hang together: a bit is set where a number drawn by `root` [256,256] is above the median
    of its row, as PDQ takes its bits from coefficients."""

    root: npt.NDArray[np.float64]
    origin: str

    @classmethod
    def fair(cls) -> HashSpread:
        """Bits that know nothing of each other."""
        return cls(np.eye(256), "Hashes are 256 fair coins, for want of photographs.")

    @classmethod
    def of(cls, hashes: Hashes) -> HashSpread:
        """That of real hashes [N,32]. Correlations of signs become those of the numbers behind them (Sheppard's sine);
        what so few hashes show by chance is left out."""
        signs = np.unpackbits(hashes, axis=1) * 2.0 - 1.0
        together = signs.T @ signs / len(signs)
        together[np.abs(together) < SURE / np.sqrt(len(signs))] = 0.0
        np.fill_diagonal(together, 1.0)
        values, axes = np.linalg.eigh(np.sin(np.pi / 2 * together))
        root = (axes * np.sqrt(values.clip(min=0))) @ axes.T
        spread = cls(root / np.linalg.norm(root, axis=1, keepdims=True), "")
        apart, drawn = (np.std(distances(each)) for each in (hashes, spread.draw(2000, np.random.default_rng(0))))
        origin = (
            f"Hashes are drawn with the correlations that the bits of {len(hashes):,} photographs have (distances of "
            f"two: standard deviation {apart:.2f} bits, of drawn ones {drawn:.2f}, of fair coins 8.00)."
        )
        return cls(spread.root, origin)

    def draw(self, count: int, chance: np.random.Generator) -> Hashes:
        """[count,32] uint8."""
        drawn = (chance.standard_normal((count, 256), np.float32) @ self.root.T.astype(np.float32)).astype(np.float32)
        return np.packbits(drawn > np.median(drawn, axis=1, keepdims=True), axis=1)


@dataclass(frozen=True, slots=True)
class Spreads:
    """How pictures are drawn."""

    vectors: Spread
    hashes: HashSpread


@dataclass(frozen=True, slots=True)
class Drawn:
    """Pictures: `pdq` [N,32] uint8, `vectors` [N,STORED,D] float16."""

    pdq: Hashes
    vectors: Halves


@dataclass(frozen=True, slots=True)
class Query:
    """An upload made from picture `target`: its hash, 64 hexadecimal digits, and vectors [R,D] float32. As many as an
    original keeps are near to the target's; the others are by chance."""

    target: int
    pdq: str
    vectors: Floats


def pictures(count: int, spreads: Spreads, seed: int) -> Drawn:
    """`count` pictures. The first ones are the same whatever the count."""
    vectors = np.empty((count, STORED, LENGTH), np.float16)
    pdq = np.empty((count, 32), np.uint8)
    for number, start in enumerate(range(0, count, CHUNK)):
        chance = np.random.default_rng([seed, number])
        here = min(CHUNK, count - start)
        pdq[start : start + here] = spreads.hashes.draw(here, np.random.default_rng([seed, number, 1]))
        vectors[start : start + here] = spreads.vectors.draw(here * STORED, chance).reshape(here, STORED, LENGTH)
    return Drawn(pdq, vectors)


def queries(of: Drawn, count: int, spread: Spread, seed: int) -> list[Query]:
    """Uploads made from `count` of the pictures."""
    chance = np.random.default_rng([seed, 2**31])
    found = []
    for _ in range(count):
        target = int(chance.integers(len(of.pdq)))
        flips = np.zeros(256, np.uint8)
        flips[chance.choice(256, COPY_DISTANCE, replace=False)] = 1
        vectors = spread.draw(len(REGIONS), chance)
        vectors[:STORED] = _beside(of.vectors[target].astype(np.float32), COPY_SIMILARITY, chance)
        found.append(Query(target, (of.pdq[target] ^ np.packbits(flips)).tobytes().hex(), vectors))
    return found


def nearest_vectors(of: Drawn, vector: Floats, most: int) -> Places:
    """Places among [N*STORED] of the `most` vectors nearest to one [D], by looking at all of them."""
    asked = vector.astype(np.float16).astype(np.float32)  # the server compares halves
    flat = of.vectors.reshape(-1, LENGTH)
    similar = [_similarity(flat[start : start + CHUNK], asked) for start in range(0, len(flat), CHUNK)]
    return _largest(np.concatenate(similar), most)


def nearest_hashes(of: Drawn, pdq: str, most: int) -> Places:
    """Places of the `most` hashes nearest to one, by looking at all of them."""
    asked = np.frombuffer(bytes.fromhex(pdq), np.uint8)
    return _largest(-np.bitwise_count(of.pdq ^ asked).sum(axis=1, dtype=np.int32), most)


def distances(hashes: Hashes) -> npt.NDArray[np.float64]:
    """Hamming distances of all pairs of hashes [N,32]."""
    signs = np.unpackbits(hashes, axis=1) * 2.0 - 1.0
    return np.asarray(((256 - signs @ signs.T) / 2)[np.triu_indices(len(signs), 1)])


def unit(vectors: npt.NDArray[np.floating]) -> Floats:
    """Vectors [...,D] at length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def _beside(vectors: Floats, similarity: float, chance: np.random.Generator) -> Floats:
    """Vectors of that cosine to the given ones [R,D], in directions by chance."""
    there = unit(vectors)
    away = chance.standard_normal(there.shape)
    away -= (away * there).sum(axis=1, keepdims=True) * there
    return unit(similarity * there + np.sqrt(1 - similarity**2) * unit(away))


def _similarity(vectors: Halves, asked: Floats) -> Floats:
    wide = vectors.astype(np.float32)
    return np.asarray(wide @ asked / np.linalg.norm(wide, axis=1), np.float32)


def _largest(values: npt.NDArray[np.floating] | npt.NDArray[np.signedinteger], most: int) -> Places:
    most = min(most, len(values))
    among = np.argpartition(-values, most - 1)[:most]
    return np.asarray(among[np.argsort(-values[among], kind="stable")], np.intp)
