"""The index of embeddings: planted vectors are found among thousands, by their tenant alone, until they are removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest
from psycopg import sql

from services.clients.candidates import Candidates, Originals, Picture
from services.clients.database import Database
from services.clients.embedders import LEAVES, Effort, Embedders, Partition
from services.clients.embeddings import After, Embedded, Embeddings, Missing, Similar, nearest_statement
from services.clients.late import Uploads
from services.clients.stoplist import StopList
from services.core.errors import Broken
from services.core.intake.regions import REGIONS, STORED, Embedding, Vectors
from services.core.intake.stoplist import StopRules
from tests.clients.examples import pdq_at, picture, sha256_of

D = 32
ONE, TWO = "regions-1", "regions-2"
LITTLE = Effort(memory_mb=64, workers=0)


def unit(vectors: Any) -> Vectors:
    made: Vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return made


def embedding(seed: int, *, regions: int = len(REGIONS), embedder: str = ONE, dimensions: int = D) -> Embedding:
    """Vectors in every direction: always the same for a seed, and far from those of another."""
    return Embedding(embedder, unit(np.random.default_rng(seed).normal(size=(regions, dimensions))))


def like(of: Embedding, *, stored: int, sought: int, seed: int = 10**6) -> Embedding:
    """An upload whose region `sought` looks like the region `stored` of a picture, and nothing else of it does."""
    vectors = embedding(seed, embedder=of.embedder).vectors.copy()
    vectors[sought] = unit(of.vectors[stored] + 0.02 * vectors[sought])
    return Embedding(of.embedder, vectors)


@pytest.fixture
async def embedders(database: Database) -> Embedders:
    """With one embedder prepared."""
    prepared = Embedders(database)
    await prepared.prepare(ONE, D)
    return prepared


@pytest.fixture
def embeddings(database: Database, embedders: Embedders) -> Embeddings:
    return Embeddings(database)


async def register(database: Database, *pictures: Picture) -> None:
    for each in pictures:
        await Candidates(database).register(each)


async def kept(database: Database, each: Picture, of: Embedding) -> Embedding:
    """A picture, registered with its vectors."""
    await register(database, each)
    assert await Embeddings(database).add([Embedded.of(each, of)]) == 1
    return of


async def nearest(database: Database, of: Embedding, *, tenant: str = "acme", **asked: Any) -> list[Similar]:
    options: dict[str, Any] = {"limit": 5, "most_far": 0.1, **asked}
    return await Embeddings(database).nearest(tenant, of, **options)


async def ids(database: Database, of: Embedding, **asked: Any) -> list[str]:
    return [each.picture.original_id for each in await nearest(database, of, **asked)]


async def crowd(database: Database, *, tenant: str, pictures: int) -> None:
    """Trusted originals with random vectors, five each, put in as a bulk load."""
    async with database.connection() as connection:
        values = {"tenant": tenant, "pictures": pictures}
        await connection.execute(
            "insert into content (sha256, object_key, size_bytes, width, height, format, pdq, pdq_quality) "
            "select md5(%(tenant)s || n) || md5('x' || n), 'k', 1, 1, 1, 'PNG', repeat('0', 64), 100 "
            "from generate_series(1, %(pictures)s) n",
            values,
        )
        await connection.execute(
            "insert into candidate (tenant, sha256, trusted, original_id, source, registered_at, pdq, pdq_quality) "
            "select %(tenant)s, md5(%(tenant)s || n) || md5('x' || n), true, 'id', 'crowd', now(), "
            "repeat('0', 256)::bit(256), 40 from generate_series(1, %(pictures)s) n",
            values,
        )
        rows = await (
            await connection.execute("select sha256 from candidate where tenant = %(tenant)s order by sha256", values)
        ).fetchall()
    loaded = [Embedded(tenant, row["sha256"], True, embedding(seed)) for seed, row in enumerate(rows)]
    await Embeddings(database).load(ONE, stream(loaded), LITTLE)


async def stream(rows: Sequence[Embedded]) -> AsyncIterator[Embedded]:
    for row in rows:
        yield row


async def test_a_picture_is_found_by_one_region_that_looks_like_one_of_an_upload(
    database: Database, embeddings: Embeddings
) -> None:
    planted = await kept(database, donor := picture("donor", trusted=True), embedding(1))
    await kept(database, picture("stranger", trusted=True), embedding(2))
    (found,) = await nearest(database, like(planted, stored=3, sought=11))
    assert found.picture == donor
    assert (found.sought, found.stored) == (11, 3)
    assert 0.99 < found.similarity <= 1.0


async def test_originals_keep_the_first_regions_only(database: Database, embeddings: Embeddings) -> None:
    planted = await kept(database, picture("a", trusted=True), embedding(1))
    assert await ids(database, like(planted, stored=STORED - 1, sought=0)) == ["id-a"]
    assert await ids(database, like(planted, stored=STORED, sought=0)) == []


async def test_planted_pictures_are_found_among_thousands_of_their_leaf_by_their_tenant_alone(
    database: Database, embeddings: Embeddings
) -> None:
    other = await in_the_leaf_of(database, "acme")
    await crowd(database, tenant=other, pictures=1500)
    planted = [await kept(database, picture(f"{n}", trusted=True), embedding(10**5 + n)) for n in range(3)]
    for number, of in enumerate(planted):
        assert await ids(database, like(of, stored=number, sought=13 - number)) == [f"id-{number}"]
    assert await ids(database, like(planted[0], stored=0, sought=0), tenant=other) == []
    assert len(await nearest(database, embedding(3), tenant=other, most_far=2.0, limit=9)) == 9
    assert "_trusted on embedding_1_" in await plan(database, tenant=other)  # the graph, and not the table


async def plan(database: Database, *, tenant: str) -> str:
    """How a search in the first embedder's part is done."""
    query = {
        "number": 1, "tenant": tenant, "vectors": ["[" + ",".join("1" * D) + "]"] * 14, "most_far": 0.5, "limit": 5,
        "depth": 10, "kinds": [True, False], "but": None,
    }  # fmt: skip
    async with database.connection() as connection:
        await connection.execute("analyze embedding")
        statement = "explain " + nearest_statement(Partition(1, D, "building"))
        rows = await (await connection.execute(statement, query)).fetchall()
    return "\n".join(row["QUERY PLAN"] for row in rows)


async def in_the_leaf_of(database: Database, tenant: str) -> str:
    """Another tenant whose vectors lie in the same leaf."""
    same = """
        select name from (select 'other-' || n as name from generate_series(1, 1000) as n) as tenants
        where (select satisfies_hash_partition('embedding_1'::regclass, %(leaves)s, leaf, name)
               from generate_series(0, %(leaves)s - 1) as leaf
               where satisfies_hash_partition('embedding_1'::regclass, %(leaves)s, leaf, %(tenant)s::text))
        limit 1
    """
    async with database.connection() as connection:
        row = await (await connection.execute(same, {"tenant": tenant, "leaves": LEAVES})).fetchone()
    assert row is not None
    return str(row["name"])


async def test_trusted_originals_and_earlier_uploads_get_places_in_turn(
    database: Database, embeddings: Embeddings
) -> None:
    planted = embedding(1)
    vectors = planted.vectors
    for number in range(8):
        nudge = 0.001 * number * embedding(100 + number).vectors
        await kept(database, picture(f"copy-{number}"), Embedding(ONE, unit(vectors + nudge)))
    await kept(database, picture("original", trusted=True), Embedding(ONE, unit(vectors + 0.1 * embedding(7).vectors)))
    found = await ids(database, planted, limit=3)
    assert found == ["id-copy-0", "id-copy-1", "id-original"]
    assert await ids(database, planted, limit=3, trusted=True) == ["id-original"]
    assert await ids(database, planted, limit=1, trusted=False, but=sha256_of("copy-0")) == ["id-copy-1"]


async def test_a_content_that_is_registered_as_both_is_found_once_as_trusted(
    database: Database, embeddings: Embeddings
) -> None:
    planted = embedding(1)
    await kept(database, picture("a", original_id="u-1"), planted)
    await kept(database, picture("a", original_id="o-1", trusted=True), planted)
    assert await ids(database, planted) == ["o-1"]
    assert await ids(database, planted, trusted=False) == ["u-1"]


async def test_pictures_on_the_stop_list_are_passed_over_and_found_again_when_they_are_lifted(
    database: Database, embeddings: Embeddings
) -> None:
    planted = embedding(1)
    await kept(database, picture("logo", trusted=True, pdq=pdq_at(0)), planted)
    await kept(database, picture("photo", trusted=True, pdq=pdq_at(128)), planted)
    stops = StopList(database, StopRules())
    entry = await stops.add("acme", "id-logo", radius=20)
    assert entry is not None
    assert await ids(database, planted) == ["id-photo"]
    await stops.lift("acme", entry.id)
    assert sorted(await ids(database, planted)) == ["id-logo", "id-photo"]


async def test_two_versions_lie_side_by_side_and_the_old_one_is_dropped(
    database: Database, embedders: Embedders, embeddings: Embeddings
) -> None:
    old = await kept(database, a := picture("a", trusted=True), embedding(1))
    await embedders.activate(ONE)
    await embedders.prepare(TWO, 2 * D)
    new = embedding(9, embedder=TWO, dimensions=2 * D)
    await embeddings.add([Embedded.of(a, new)])
    assert await ids(database, old) == await ids(database, new) == ["id-a"]
    assert await embedders.find(ONE) == Partition(1, D, "active")
    await embedders.activate(TWO)
    states = {each.name: each for each in await embedders.state()}
    assert [(each.state, each.dimensions) for each in states.values()] == [("active", 2 * D), ("retired", D)]
    assert (states[ONE].pictures, states[ONE].vectors) == (1, STORED)
    assert states[ONE].size_bytes > 0
    assert states[ONE].oldest == states[ONE].newest is not None

    with pytest.raises(Broken, match="activate another one"):
        await embedders.drop(TWO)
    assert await embedders.drop(ONE)
    assert not await embedders.drop(ONE)
    assert await ids(database, old) == []
    assert await ids(database, new) == ["id-a"]
    with pytest.raises(Broken, match="no embedder regions-1"):
        await embeddings.add([Embedded.of(a, old)])
    with pytest.raises(Broken, match="no embedder regions-1"):
        await embedders.activate(ONE)


async def test_preparing_at_once_makes_the_tables_once(database: Database, embedders: Embedders) -> None:
    await asyncio.gather(*(embedders.prepare(f"at-once-{number % 2}", D) for number in range(8)))
    assert [(each.name, each.pictures) for each in await embedders.state()][-1] == (ONE, 0)
    async with database.connection() as connection:
        count = "select count(*) as leaves from pg_partition_tree('embedding') where isleaf"
        row = await (await connection.execute(count)).fetchone()
    assert row == {"leaves": 3 * LEAVES}
    with pytest.raises(Broken, match="another version"):
        await embedders.prepare(ONE, D + 1)


async def test_vectors_of_another_length_and_of_no_registered_picture_do_not_get_in(
    database: Database, embeddings: Embeddings
) -> None:
    a = picture("a", trusted=True)
    await register(database, a)
    with pytest.raises(Broken, match="shape"):
        await embeddings.add([Embedded.of(a, embedding(1, dimensions=D + 1))])
    assert await embeddings.add([Embedded.of(picture("never registered"), embedding(1))]) == 0


async def test_a_picture_that_is_removed_or_withdrawn_takes_its_vectors_along(
    database: Database, embeddings: Embeddings, embedders: Embedders
) -> None:
    await kept(database, picture("original", trusted=True), embedding(1))
    await kept(database, upload := picture("upload"), embedding(2))
    await Uploads(database).remember("acme", "id-upload", sha256_of("upload"))
    assert await Originals(database).remove("acme", ["id-original"]) == {"id-original"}
    await Candidates(database).withdraw(upload)
    (state,) = await embedders.state()
    assert state.vectors == 0


async def test_removed_vectors_are_missing_again(database: Database, embeddings: Embeddings) -> None:
    planted = await kept(database, a := picture("a", trusted=True), embedding(1))
    assert await embeddings.remove("other", [a.image.sha256]) == 0
    assert await embeddings.remove("acme", [a.image.sha256]) == STORED
    assert await ids(database, planted) == []
    assert await Missing(database).page("acme", ONE, limit=5) == [a]


async def test_adding_again_replaces_what_changed(database: Database, embeddings: Embeddings) -> None:
    await kept(database, a := picture("a", trusted=True), embedding(1))
    await embeddings.add([Embedded.of(a, embedding(2))])
    assert await ids(database, embedding(1)) == []
    assert await ids(database, embedding(2)) == ["id-a"]


async def test_a_bulk_load_gives_what_adding_gives(
    database: Database, embedders: Embedders, embeddings: Embeddings
) -> None:
    pictures = [picture(f"{n}", tenant=f"t{n % 5}", trusted=n % 2 == 0, pdq=pdq_at(n)) for n in range(40)]
    await register(database, *pictures)
    rows = [Embedded.of(each, embedding(seed)) for seed, each in enumerate(pictures)]
    gone = Embedded("t0", sha256_of("gone"), True, embedding(5))
    assert await embeddings.load(ONE, stream([*rows, gone, rows[0]]), LITTLE) == len(rows)
    everything = "select embedder, tenant, sha256, trusted, region, vector::text from embedding order by 1, 2, 3, 4, 5"
    graphs = "select count(*) as graphs from pg_indexes where indexdef like '%%hnsw ((%%'"
    async with database.connection() as connection:
        loaded = await (await connection.execute(everything)).fetchall()
        assert await (await connection.execute(graphs)).fetchone() == {"graphs": 2 * LEAVES}
        await connection.execute("delete from embedding")
    assert await embeddings.add(rows) == len(rows)
    async with database.connection() as connection:
        assert await (await connection.execute(everything)).fetchall() == loaded
    assert await embeddings.load(ONE, stream(rows), LITTLE) == len(rows)  # again: nothing changes
    await embedders.activate(ONE, LITTLE)
    with pytest.raises(Broken, match="bulk loads"):
        await embeddings.load(ONE, stream(rows), LITTLE)


async def test_a_load_that_stopped_halfway_keeps_what_it_did_and_activating_builds_the_graphs(
    database: Database, embedders: Embedders, embeddings: Embeddings
) -> None:
    await register(database, a := picture("a", trusted=True), b := picture("b", trusted=True))
    with pytest.raises(Broken, match="cannot be loaded"):
        rows = [Embedded.of(a, embedding(1))] * 1000 + [Embedded.of(b, embedding(1, embedder=TWO))]
        await embeddings.load(ONE, stream(rows), LITTLE)
    assert await ids(database, embedding(1)) == ["id-a"]
    graphs = "select count(*) as graphs from pg_indexes where indexdef like '%%hnsw ((%%'"
    async with database.connection() as connection:
        assert await (await connection.execute(graphs)).fetchone() == {"graphs": 0}
    with pytest.raises(Broken, match="division by zero"):  # a build that dies leaves an index that is none
        async with database.connection() as connection:
            row = await (
                await connection.execute("select min(tableoid::regclass::text) as leaf from embedding")
            ).fetchone()
            leaf = sql.Identifier(row["leaf"] if row else "")
            name = sql.Identifier(f"{row['leaf'] if row else ''}_trusted")
            build = sql.SQL("create index concurrently {} on {} ((1 / region))")
            await connection.execute(build.format(name, leaf))
    await asyncio.gather(embedders.activate(ONE, LITTLE), embedders.activate(ONE, LITTLE))
    async with database.connection() as connection:
        assert await (await connection.execute(graphs)).fetchone() == {"graphs": 2 * LEAVES}
        invalid = "select count(*) as invalid from pg_index where not indisvalid"
        assert await (await connection.execute(invalid)).fetchone() == {"invalid": 0}


async def test_what_is_missing_is_listed_page_by_page_and_shrinks_as_it_is_added(
    database: Database, embeddings: Embeddings
) -> None:
    pictures = [picture(f"{n}", tenant=tenant, trusted=True) for tenant in ("acme", "zeta") for n in range(5)]
    await register(database, *pictures, picture("upload"))
    assert await missing(database, None) == {(each.tenant, each.image.sha256) for each in pictures}
    assert await missing(database, "zeta") == {(each.tenant, each.image.sha256) for each in pictures[5:]}
    assert await Missing(database).count(None, ONE) == 10
    assert await Missing(database, trusted=None).count("acme", ONE) == 6
    assert await Missing(database).count("acme", "never prepared") == 5
    await embeddings.add([Embedded.of(each, embedding(1)) for each in pictures[:3]])
    assert await Missing(database).count("acme", ONE) == 2
    assert await missing(database, "acme") == {(each.tenant, each.image.sha256) for each in pictures[3:5]}


async def missing(database: Database, tenant: str | None) -> set[tuple[str, str]]:
    """Read two by two; no picture comes twice."""
    listed: list[tuple[str, str]] = []
    after = None
    while page := await Missing(database).page(tenant, ONE, limit=2, after=after):
        listed += [(each.tenant, each.image.sha256) for each in page]
        after = After.picture(page[-1])
    assert len(set(listed)) == len(listed)
    return set(listed)
