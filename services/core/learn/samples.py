"""Samples: what they are, which side of the split they are on, and which of them make a dataset version. Pure.

In: annotated pictures and the groups that are there. Out: a sample with its id and split; a choice and its name.
Pictures that share an original, directly or through others, make one group, and a group is on one side of the split:
else a network would be measured on pictures that it was fitted on.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from services.core.events import StoredImage

Kind = Literal["spg", "sdg", "drawn", "authentic"]
"""`drawn`: a moderator marked the edit and no original is known. `authentic`: a moderator says that there is none."""

Source = Literal["machine", "moderator"]
Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
HELD_OUT = 0.1
"""Share of groups in each of `validation` and `test`."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """A picture with its mask: `mask_key` None for an authentic one, `area` the share of it that is marked, `qes` None
    where nothing was; `original_sha256` where it was compared with one."""

    tenant: str
    image: StoredImage
    mask_key: str | None
    original_sha256: str | None
    kind: Kind
    area: float
    qes: float | None
    source: Source
    annotator: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled picture in the manifest. `set_aside` says why it is not to be used any more."""

    id: str
    of: Labelled
    group: str
    split: Split
    set_aside: str | None = None

    def facts(self) -> dict[str, Any]:
        """What stands beside its picture in a shard. The same sample has the same facts for ever."""
        return _facts(self.of, self.split) | {"id": self.id}


@dataclass(frozen=True, slots=True)
class Group:
    """Pictures that belong together. `seq` grows: of two groups the lower is the older."""

    id: str
    split: Split
    seq: int


@dataclass(frozen=True, slots=True)
class Merger:
    """Groups that turned out to be one: `into` is the oldest and keeps its split, `absorbed` go into it. The samples of
    those `set_aside` were on another side, and stay there unused rather than change sides."""

    into: Group
    absorbed: tuple[Group, ...] = ()
    set_aside: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True)
class Caps:
    """How many samples of a class (forged, authentic) and of a kind the training split holds at most; None: all.

    `validation` and `test` are never cut, so that figures on them stay comparable.
    """

    per_class: int | None = None
    per_kind: int | None = None


def group_named(sha256: str) -> str:
    """The id of a group that starts with this picture."""
    return hashlib.sha256(f"group/{sha256}".encode()).hexdigest()[:16]


def split_of(group: str) -> Split:
    """The side that a new group is on, drawn by the hash of its id."""
    draw = int.from_bytes(hashlib.sha256(f"split/{group}".encode()).digest()[:8], "big") / 2**64
    return "test" if draw < HELD_OUT else "validation" if draw < 2 * HELD_OUT else "train"


def merged(groups: Collection[Group]) -> Merger:
    """What becomes of one or more groups that a new sample connects."""
    into, *absorbed = sorted(groups, key=lambda group: group.seq)
    return Merger(into, tuple(absorbed), tuple(group for group in absorbed if group.split != into.split))


def sampled(labelled: Labelled, group: Group) -> Sample:
    """The sample of a labelled picture in a group. Its id says all that can matter to a network."""
    facts = {"tenant": labelled.tenant, "mask_key": labelled.mask_key, **_facts(labelled, group.split)}
    identity = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return Sample(identity, labelled, group.id, group.split)


def chosen(samples: Iterable[Sample], caps: Caps) -> list[Sample]:
    """The samples of a version, by id. Of one picture the moderator's word counts, else the one that was added last:
    `samples` are in the order in which they were added. Those set aside are left out.
    """
    latest: dict[str, Sample] = {}
    for sample in samples:
        before = latest.get(sample.of.image.sha256)
        outranked = before is not None and before.of.source == "moderator" and sample.of.source == "machine"
        if sample.set_aside is None and not outranked:
            latest[sample.of.image.sha256] = sample
    return _capped(sorted(latest.values(), key=lambda sample: sample.id), caps)


def digest_of(samples: Sequence[Sample]) -> str:
    """SHA-256 over the sorted ids of a choice."""
    return hashlib.sha256("\n".join(sorted(sample.id for sample in samples)).encode()).hexdigest()


def version_name(digest: str) -> str:
    """`ds-<12 hex>`: the name of a dataset version."""
    return f"ds-{digest[:12]}"


def set_aside_because(group: Group) -> str:
    """Why samples are set aside whose group was absorbed by one on another side."""
    return f"related to group {group.id}, which is in {group.split}"


def counts(samples: Iterable[Sample]) -> dict[str, Any]:
    """How many there are, by split, kind and source, and of how many groups."""
    every = list(samples)
    return {
        "samples": len(every),
        "groups": len({sample.group for sample in every}),
        "splits": dict(sorted(Counter(sample.split for sample in every).items())),
        "kinds": dict(sorted(Counter(sample.of.kind for sample in every).items())),
        "sources": dict(sorted(Counter(sample.of.source for sample in every).items())),
    }


def _capped(samples: Sequence[Sample], caps: Caps) -> list[Sample]:
    """The first of each class and kind by id, which is a draw by hash: the same for the same samples."""
    taken: Counter[str] = Counter()
    kept = []
    for sample in samples:
        side = "authentic" if sample.of.kind == "authentic" else "forged"
        limits = ((f"class {side}", caps.per_class), (f"kind {sample.of.kind}", caps.per_kind))
        if sample.split == "train":
            if any(limit is not None and taken[name] >= limit for name, limit in limits):
                continue
            taken.update(name for name, _ in limits)
        kept.append(sample)
    return kept


def _facts(labelled: Labelled, split: Split) -> dict[str, Any]:
    image = labelled.image
    return {
        "sha256": image.sha256,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "kind": labelled.kind,
        "area": labelled.area,
        "qes": labelled.qes,
        "source": labelled.source,
        "annotator": labelled.annotator,
        "split": split,
    }
