"""The ways of finding that are compared, on an index in memory that answers exactly.

In: photographs, and uploads as bytes. Out: the registered pictures that each method finds, best first. The distances
are those of the service: PDQ as `Candidates.nearest` has it, vectors as `Embeddings.nearest` has it. What HNSW loses
against an exact answer is measured apart, see `scale`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bench.lookup.word_lists import WordLists
from model_archive.handlers import embedding
from model_archive.weights import default_path
from services.core.events import Fingerprint
from services.core.intake.fingerprint import LEAST_QUALITY, MAX_DISTANCE, SIDE, fingerprint, orientations
from services.core.intake.regions import STORED
from services.core.intake.words import VisualWords, agreed, words_of
from services.core.pixels import open_image
from services.opening import open_vocabulary
from services.settings import EmbedderSettings, IntakeSettings, WordSettings

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]

PDQ, VECTORS, BOTH, WORDS = "PDQ", "embedding", "both", "words"
DEEP = 10  # places that are looked at before verification
DECODED_SIDE = 1280  # pixels of the longer side at which the embedder opens files
WAYS = IntakeSettings().orientations
VERIFIED = IntakeSettings().max_candidates
PLACES = EmbedderSettings().places
WORD_PLACES = WordSettings().places
MIN_SIMILARITY = EmbedderSettings().min_similarity
VOCABULARY = open_vocabulary()


class Embedder(Protocol):
    """What makes vectors of pictures."""

    @property
    def version(self) -> str:
        """Names weights and preparation; vectors of two versions are never compared."""
        ...

    def embed(self, pictures: Sequence[Pixels]) -> list[Vectors]:
        """Of each picture [H,W,3] uint8 the vectors [R,D] float32 of its regions, of length 1."""
        ...


def embedder() -> Embedder | None:
    """The embedder that serves; None where there are no weights of it. Raises Broken for damaged ones."""
    if not os.environ.get(embedding.BACKBONE) and not default_path(embedding.NAME).is_file():
        return None
    return embedding.embedder_model()


@dataclass(frozen=True, slots=True)
class Looks:
    """What is known of a picture: `vectors` [R,D] float32, None without an embedder."""

    fingerprint: Fingerprint
    vectors: Vectors | None
    words: VisualWords


def looks(contents: Sequence[bytes], model: Embedder | None) -> list[Looks]:
    """Pictures as intake and the embedder see them."""
    pictures = [open_image(data, max_side=SIDE) for data in contents]
    wide = [open_image(data, max_side=DECODED_SIDE).rgb for data in contents] if model else []
    vectors: Sequence[Vectors | None] = model.embed(wide) if model else [None] * len(pictures)
    words = [words_of(data, VOCABULARY) for data in contents]
    return [Looks(fingerprint(p), v, w) for p, v, w in zip(pictures, vectors, words, strict=True)]


class Index:
    """Registered pictures, by place in the order in which they were given."""

    def __init__(self, registered: Sequence[Looks]) -> None:
        self._pdq = np.stack([_bytes(each.fingerprint.pdq) for each in registered])
        self._good = np.array([each.fingerprint.pdq_quality >= LEAST_QUALITY for each in registered])
        kept = [each.vectors[:STORED] for each in registered if each.vectors is not None]
        self._vectors = np.stack(kept) if len(kept) == len(registered) else None
        self._words = WordLists([each.words for each in registered])

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that can be compared."""
        return (PDQ, WORDS) if self._vectors is None else (PDQ, VECTORS, BOTH, WORDS)

    def distances(self, pdq: str, ways: int = WAYS) -> npt.NDArray[np.int64]:
        """[N] Hamming distance of every registered picture, the least of the orientations sought."""
        asked = np.stack([_bytes(each) for each in orientations(pdq)[:ways]])
        return np.asarray(np.bitwise_count(self._pdq[None] ^ asked[:, None]).sum(axis=2, dtype=np.int64).min(axis=0))

    def found(self, upload: Looks, method: str) -> list[int]:
        """The first `DEEP` pictures that a method finds, best first."""
        if method == PDQ:
            return self._by_pdq(upload.fingerprint)
        if method == VECTORS:
            return self._by_vectors(upload.vectors)
        if method == WORDS:
            return self._with_words(upload)
        return fused(self._by_pdq(upload.fingerprint), self._by_vectors(upload.vectors))[:DEEP]

    def _by_pdq(self, of: Fingerprint) -> list[int]:
        """Within the distance at which the service takes a picture for a candidate; hashes of flat pictures match at
        distance 0 alone, as they are."""
        if of.pdq_quality < LEAST_QUALITY:
            same = self.distances(of.pdq, 1) == 0
            return [int(place) for place in np.flatnonzero(same)[:DEEP]]
        distances = self.distances(of.pdq)
        order = np.argsort(distances, kind="stable")
        return [int(place) for place in order if distances[place] <= MAX_DISTANCE and self._good[place]][:DEEP]

    def _with_words(self, upload: Looks) -> list[int]:
        """PDQ's as many as are verified, then what words alone find."""
        by_hash = self._by_pdq(upload.fingerprint)[:VERIFIED]
        shared = self._words.shared(upload.words)
        by_words = [number for number, _ in agreed(upload.words, shared, most=DEEP) if number not in by_hash]
        return [*by_hash, *by_words][:DEEP]

    def _by_vectors(self, vectors: Vectors | None) -> list[int]:
        """By the best agreement of any region of the upload with any kept one of a picture."""
        if vectors is None or self._vectors is None:
            return []
        agreement = np.einsum("nkd,rd->nkr", self._vectors, vectors).max(axis=(1, 2))
        order = np.argsort(-agreement, kind="stable")[:DEEP]
        return [int(place) for place in order if agreement[place] >= MIN_SIMILARITY]


def verified(method: str) -> int:
    """How many of those that a method finds are verified."""
    return VERIFIED + WORD_PLACES if method == WORDS else VERIFIED


def fused(by_hash: Sequence[int], by_parts: Sequence[int]) -> list[int]:
    """What both find, as the service deals its places: hashes first, but `PLACES` of the `VERIFIED` are kept for what
    only vectors find; then what is left of either, hashes first."""
    only = [place for place in by_parts if place not in by_hash]
    first = list(by_hash[: VERIFIED - min(PLACES, len(only), VERIFIED - 1)])
    taken = [*first, *only[: VERIFIED - len(first)]]
    return list(dict.fromkeys([*taken, *by_hash, *only]))


def _bytes(pdq: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(pdq), np.uint8)
