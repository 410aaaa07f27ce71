"""The index of pictures that an upload may have been made from, and the cache of verified pairs.

In: pictures with their fingerprints. Out: a picture's nearest neighbours by PDQ (256-bit Hamming distance), the trusted
ones as a list, and what geometric verification said of a pair before. PDQ finds, geometry decides; this only finds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from psycopg.types.json import Jsonb

from services.clients.database import Database, storable
from services.clients.hashes import HashScan
from services.core.events import Candidate, Fingerprint, StoredImage
from services.core.intake.fingerprint import LEAST_QUALITY, orientations
from services.core.intake.stoplist import StopRules

EMBEDDER = "pdq-1"
METHOD: Final = "sift-3"  # of verification: what it sees of a picture, and how it compares
NEWEST: Final = 2**63 - 1

Pair = tuple[str, str]
"""SHA-256 of an upload and of a candidate."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture that uploads may be made from: of a trusted library, or an earlier upload (`original_id` is its id)."""

    tenant: str
    original_id: str
    image: StoredImage
    fingerprint: Fingerprint
    trusted: bool
    source: str
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A registered picture and its PDQ Hamming distance, 0..256: the least of the orientations that were sought."""

    picture: Picture
    distance: int

    def candidate(self, inliers: int, overlap: float, homography: tuple[float, ...] | None) -> Candidate:
        """What verdicts say of it, with what verification found."""
        return Candidate(
            original_id=self.picture.original_id,
            sha256=self.picture.image.sha256,
            object_key=self.picture.image.object_key,
            trusted=self.picture.trusted,
            source=self.picture.source,
            registered_at=self.picture.registered_at,
            distance=self.distance,
            inliers=inliers,
            overlap=overlap,
            homography=homography,
        )


@dataclass(frozen=True, slots=True)
class Geometry:
    """What verification found of a pair: `overlap` 0..1, `homography` row-major 3x3, None where nothing fits."""

    inliers: int
    overlap: float
    homography: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the list of trusted originals, newest first: the one after which the next page starts."""

    registered_at: datetime
    sha256: str

    @classmethod
    def after(cls, picture: Picture) -> Self:
        """The place for the page that follows this last picture of a page."""
        return cls(picture.registered_at, picture.image.sha256)


@dataclass(frozen=True, slots=True)
class Exempt:
    """What is found although it is on the stop list: pictures of good hashes within `copy_distance` of the upload, and
    the upload's very bytes where their SHA-256 is given.
    """

    sha256: str | None = None
    copy_distance: int = StopRules().copy_distance


NO_EXEMPTION: Final = Exempt()


class Candidates:
    """Registered pictures, searched by fingerprint. Every method raises `Unavailable` or `Broken` only.

    With a `scan`, trusted originals are found exactly; without, and until it has read them, by a graph that misses some
    of those that are far.
    """

    def __init__(self, database: Database, scan: HashScan | None = None) -> None:
        self._database = database
        self._scan = scan

    async def register(self, picture: Picture) -> None:
        """Make a picture findable. Repeating it changes nothing, and so does the order of registrations: of the same
        content, tenant and trust the earliest registration stays, with its id and source. A trusted one waits to be
        prepared from then on (`preparation.py`), each time anew.
        """
        async with self._database.connection() as connection:
            await connection.execute(_REGISTER, _parameters(picture))

    async def withdraw(self, picture: Picture) -> None:
        """Take an upload out again that turned out not to be acceptable, unless others of its content came, too."""
        async with self._database.connection() as connection:
            await connection.execute(_WITHDRAW, _parameters(picture))

    async def known(self, sha256: str) -> tuple[StoredImage, Fingerprint] | None:
        """What is known of these bytes, whichever tenant sent them first; None if nothing."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_KNOWN, {"sha256": sha256})).fetchone()
        return None if row is None else (_image(row), _fingerprint(row))

    async def nearest(
        self,
        tenant: str,
        fingerprint: Fingerprint,
        *,
        max_distance: int,
        limit: int,
        at_most_seq: int | None = None,
        trusted: bool | None = None,
        ways: int = 1,
        exempt: Exempt = NO_EXEMPTION,
    ) -> list[Neighbour]:
        """At most `limit` pictures of the tenant within `max_distance`, nearest first, each content once.

        The picture is sought in the first `ways` of its eight `orientations`, as it is first; see
        docs/decisions/0015-mirrored-and-turned-uploads.md. Places are dealt in turn to trusted pictures and earlier
        uploads, so that neither kind crowds out the other; `trusted` asks for one kind only. A content registered as
        both counts as trusted. Hashes of a quality below 50, on either side, match at distance 0 alone, as they are.
        Pictures on the stop list are passed over, but for those that are `exempt`.
        `at_most_seq` repeats a search on the index as it was then (the number in `index_version`).
        """
        sought = orientations(fingerprint.pdq)[:ways]
        query: dict[str, Any] = {
            "tenant": tenant,
            "pdq": bits(fingerprint.pdq),
            "ways": [bits(pdq) for pdq in sought],
            "max_distance": max_distance,
            "limit": limit,
            "at_most_seq": NEWEST if at_most_seq is None else at_most_seq,
            "kinds": [True, False] if trusted is None else [trusted],
            "sha256": exempt.sha256,
            "stopped_distance": exempt.copy_distance,
        }
        good = fingerprint.pdq_quality >= LEAST_QUALITY
        statement = _NEAREST if good else _SAME
        if self._scan is not None and good and trusted is not False:
            scanned = await self._scan.near(tenant, sought, max_distance=max_distance)
            if scanned is not None:
                statement = _NEAREST_SCANNED
                query |= {"near": list(scanned.near), "scanned_until": scanned.until}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(statement, query)).fetchall()
        return [Neighbour(picture_of(row), row["distance"]) for row in rows]

    async def index_version(self) -> str:
        """`<embedder>/<number>`; the number grows with every picture that is added. One read at an index's end."""
        async with self._database.connection() as connection:
            row = await (await connection.execute("select max(seq) as newest from candidate")).fetchone()
        return f"{EMBEDDER}/{row['newest'] or 0 if row else 0}"


class Originals:
    """A tenant's trusted originals. Every method raises `Unavailable` or `Broken` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, tenant: str, *, limit: int, source: str | None = None, after: Place | None = None
    ) -> list[Picture]:
        """At most `limit` trusted originals, of one source or all, newest `registered_at` first, from `after` on."""
        query: dict[str, Any] = {"tenant": tenant, "limit": limit, "source": source}
        conditions = [_TRUSTED_OF] if source is None else [_TRUSTED_OF, "source = %(source)s"]
        if after is not None:
            conditions.append("(registered_at, sha256) < (%(at)s, %(at_sha256)s)")
            query |= {"at": after.registered_at, "at_sha256": after.sha256}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_PAGE.format(where=" and ".join(conditions)), query)).fetchall()
        return [picture_of(row) for row in rows]

    async def count(self, tenant: str, *, source: str | None = None) -> tuple[int, datetime | None]:
        """How many there are, and when the newest was registered; (0, None) where there are none."""
        async with self._database.connection() as connection:
            row = await (await connection.execute(_COUNT, {"tenant": tenant, "source": source})).fetchone()
        return (row["originals"], row["newest"]) if row else (0, None)

    async def remove(self, tenant: str, original_ids: Sequence[str]) -> set[str]:
        """Makes the tenant's trusted originals of these ids unfindable. Returns the ids that there were.

        What is known of their bytes stays, and so does an untrusted row of the same content, and verified pairs: those
        say how two contents lie on each other, and are asked only about pictures that were found. An event that
        registers the same original again, or is still on its way, makes it findable again. One after the other: in a
        large library each is cut out of a thousand long lists of words, which takes seconds.
        """
        removed: set[str] = set()
        for original_id in original_ids:
            async with self._database.connection() as connection:
                query = {"tenant": tenant, "original_id": original_id}
                rows = await (await connection.execute(_REMOVE, query)).fetchall()
            removed |= {row["original_id"] for row in rows}
        return removed


class Geometries:
    """Verified pairs, so that a viral picture is compared once. `method` names the verifier: a new one starts empty."""

    def __init__(self, database: Database, *, method: str = METHOD) -> None:
        self._database = database
        self._method = method

    async def known(self, pairs: Iterable[Pair]) -> dict[Pair, Geometry]:
        """Those of the pairs that were verified before."""
        uploads, candidates = _columns(pairs)
        if not uploads:
            return {}
        query = {"method": self._method, "uploads": uploads, "candidates": candidates}
        async with self._database.connection() as connection:
            rows = await (await connection.execute(_GEOMETRIES, query)).fetchall()
        return {(row["upload_sha256"], row["candidate_sha256"]): _geometry(row) for row in rows}

    async def remember(self, verified: Mapping[Pair, Geometry]) -> None:
        """Keep what was found, pairs without a fit included. What is there already stays."""
        if not verified:
            return
        rows = [
            {
                "method": self._method,
                "upload": upload,
                "candidate": candidate,
                "inliers": geometry.inliers,
                "overlap": geometry.overlap,
                "homography": None if geometry.homography is None else list(geometry.homography),
            }
            # always in the same order, so that two writers never wait for each other in a circle
            for (upload, candidate), geometry in sorted(verified.items(), key=lambda item: item[0])
        ]
        async with self._database.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(_REMEMBER, rows)


# The last part sees what was registered before; what this statement registers it is only told.
_REGISTER = """
with facts as (
    insert into content (sha256, object_key, size_bytes, width, height, format, pdq, pdq_quality, jpeg_quantisation)
    values (%(sha256)s, %(object_key)s, %(size_bytes)s, %(width)s, %(height)s, %(format)s, %(pdq)s, %(pdq_quality)s,
            %(jpeg_quantisation)s)
    on conflict (sha256) do nothing
),
registered as (
    insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality)
    values (%(tenant)s, %(sha256)s, %(trusted)s, %(original_id)s, %(source)s, %(registered_at)s, %(bits)s::bit(256),
            %(pdq_quality)s)
    on conflict (tenant, sha256, trusted) do update
        set original_id = excluded.original_id, source = excluded.source, registered_at = excluded.registered_at
        where (excluded.registered_at, excluded.original_id) < (candidate.registered_at, candidate.original_id)
    returning seq
)
insert into unprepared (seq, tenant)
select seq, %(tenant)s from registered where %(trusted)s
union
select seq, tenant from candidate where tenant = %(tenant)s and sha256 = %(sha256)s and trusted and %(trusted)s
on conflict do nothing
"""

_WITHDRAW = """
delete from candidate
where tenant = %(tenant)s and sha256 = %(sha256)s and not trusted and original_id = %(original_id)s and not exists (
    select 1 from upload
    where upload.tenant = %(tenant)s and upload.sha256 = %(sha256)s and upload.upload_id <> %(original_id)s
)
"""

_KNOWN = "select * from content where sha256 = %(sha256)s"

_FOUND = "select seq, sha256, trusted, registered_at, (pdq <~> {pdq})::integer as distance from candidate"
_VISIBLE = "tenant = %(tenant)s and seq <= %(at_most_seq)s"

# Twice the limit, because a content may turn up in both kinds. The condition on the distance stands outside: inside, a
# scan that runs out of near pictures would search the whole graph for another one. One scan of the graph for each
# orientation: an index answers only in the order of the distance to one hash.
_NEAREST_OF_KIND = """
(
    select near.* from unnest(%(ways)s::text[]::bit(256)[]) as asked (way) cross join lateral (
        {found}
        where {visible} and {kind} and {kind_asked} and pdq_quality >= 50 and stopped_by is null
        order by pdq <~> way limit 2 * %(limit)s
    ) as near
)
"""
# What the scan named, and what is too new for it. Of each the database says whether it is still to be found.
_SCANNED = """
(
    select seq, sha256, trusted, registered_at,
           (select min(pdq <~> way) from unnest(%(ways)s::text[]::bit(256)[]) as asked (way))::integer as distance
    from candidate
    where {visible} and trusted and true = any(%(kinds)s) and pdq_quality >= 50 and stopped_by is null and {which}
)
"""
# What is stopped has a graph of its own, a small one.
_NEAREST_STOPPED = """
(
    select near.* from unnest(%(ways)s::text[]::bit(256)[]) as asked (way) cross join lateral (
        {found}
        where {visible} and trusted = any(%(kinds)s) and pdq_quality >= 50 and stopped_by is not null
        order by pdq <~> way limit 2 * %(limit)s
    ) as near
    where near.distance <= %(stopped_distance)s
)
"""
_SAME_CONTENT = """
(
    {found}
    where {visible} and trusted = any(%(kinds)s) and sha256 = %(sha256)s
)
"""
_SAME_HASH = """
(
    {found}
    where {visible} and trusted = any(%(kinds)s) and pdq = %(pdq)s::bit(256) and stopped_by is null {and_quality}
    order by trusted desc, registered_at, seq limit 2 * %(limit)s
)
"""
_BEST = """
with found as materialized ({branches}),
each_once as (
    select distinct on (sha256) * from found where distance <= %(max_distance)s order by sha256, trusted desc, distance
),
placed as (
    select *, row_number() over (
        partition by trusted order by sha256 is not distinct from %(sha256)s desc, distance, registered_at, seq
    ) as place
    from each_once
),
dealt as (select seq, distance from placed order by place, trusted desc limit %(limit)s)
select candidate.tenant, candidate.original_id, candidate.trusted, candidate.source, candidate.registered_at,
       content.*, dealt.distance
from dealt join candidate using (seq) join content using (sha256)
order by dealt.distance, candidate.trusted desc, candidate.registered_at, candidate.seq
"""


def _of_kind(kind: str, asked: str) -> str:
    found = _FOUND.format(pdq="way")
    return _NEAREST_OF_KIND.format(found=found, visible=_VISIBLE, kind=kind, kind_asked=asked)


def _stopped() -> str:
    return _NEAREST_STOPPED.format(found=_FOUND.format(pdq="way"), visible=_VISIBLE)


def _same(statement: str, and_quality: str = "") -> str:
    found = _FOUND.format(pdq="%(pdq)s::bit(256)")
    return statement.format(found=found, visible=_VISIBLE, and_quality=and_quality)


_FOUND_ANYHOW = (
    _of_kind("not trusted", "false = any(%(kinds)s)"),
    _stopped(),
    _same(_SAME_HASH, "and pdq_quality < 50"),
    _same(_SAME_CONTENT),
)
_NEAREST = _BEST.format(branches="union all".join((_of_kind("trusted", "true = any(%(kinds)s)"), *_FOUND_ANYHOW)))
_NEAREST_SCANNED = _BEST.format(
    branches="union all".join(
        (
            _SCANNED.format(visible=_VISIBLE, which="seq = any(%(near)s)"),
            _SCANNED.format(visible=_VISIBLE, which="seq > %(scanned_until)s"),
            *_FOUND_ANYHOW,
        )
    )
)
_SAME = _BEST.format(branches="union all".join((_same(_SAME_HASH), _same(_SAME_CONTENT))))

_TRUSTED_OF = "tenant = %(tenant)s and trusted"
# The page is cut before its facts are fetched: by index, and not by joining a million rows first.
_PAGE = """
with page as (
    select tenant, original_id, sha256, trusted, source, registered_at from candidate
    where {where} order by registered_at desc, sha256 desc limit %(limit)s
)
select page.tenant, page.original_id, page.trusted, page.source, page.registered_at, content.*
from page join content using (sha256)
order by page.registered_at desc, page.sha256 desc
"""
_COUNT = f"""
select count(*) as originals, max(registered_at) as newest from candidate
where {_TRUSTED_OF} and (%(source)s::text is null or source = %(source)s)
"""
_REMOVE = f"""
delete from candidate where {_TRUSTED_OF} and original_id = %(original_id)s returning original_id
"""

_GEOMETRIES = """
select geometry.* from geometry
join unnest(%(uploads)s::text[], %(candidates)s::text[]) as asked (upload_sha256, candidate_sha256)
    using (upload_sha256, candidate_sha256)
where method = %(method)s
"""
_REMEMBER = """
insert into geometry (upload_sha256, candidate_sha256, method, inliers, overlap, homography)
values (%(upload)s, %(candidate)s, %(method)s, %(inliers)s, %(overlap)s, %(homography)s)
on conflict do nothing
"""


def bits(pdq_hex: str) -> str:
    """A hash [64 hexadecimal digits] as PostgreSQL's `bit(256)` reads it."""
    return f"{int(pdq_hex, 16):0256b}"


def _columns(pairs: Iterable[Pair]) -> tuple[list[str], list[str]]:
    distinct = sorted(set(pairs))
    return [upload for upload, _ in distinct], [candidate for _, candidate in distinct]


def _parameters(picture: Picture) -> dict[str, Any]:
    tables = picture.fingerprint.jpeg_quantisation
    return {
        **picture.image.model_dump(),
        "pdq": picture.fingerprint.pdq,
        "bits": bits(picture.fingerprint.pdq),
        "pdq_quality": picture.fingerprint.pdq_quality,
        "jpeg_quantisation": None if tables is None else Jsonb(tables),
        "tenant": picture.tenant,
        "original_id": picture.original_id,
        "trusted": picture.trusted,
        "source": storable(picture.source),
        "registered_at": picture.registered_at,
    }


def _image(row: Mapping[str, Any]) -> StoredImage:
    return StoredImage.model_validate({name: row[name] for name in StoredImage.model_fields})


def _fingerprint(row: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint.model_validate({name: row[name] for name in Fingerprint.model_fields})


def picture_of(row: Mapping[str, Any]) -> Picture:
    """The picture in a row of a registration and what is known of its bytes."""
    return Picture(
        tenant=row["tenant"],
        original_id=row["original_id"],
        image=_image(row),
        fingerprint=_fingerprint(row),
        trusted=row["trusted"],
        source=row["source"],
        registered_at=row["registered_at"],
    )


def _geometry(row: Mapping[str, Any]) -> Geometry:
    homography = None if row["homography"] is None else tuple(row["homography"])
    return Geometry(row["inliers"], row["overlap"], homography)
