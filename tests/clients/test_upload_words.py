"""The words of uploads: what an original that comes later shares with them, beside the index of originals."""

from __future__ import annotations

import pytest

from services.clients.candidates import Candidates, Originals, Picture
from services.clients.database import Database
from services.clients.erasure_tenant import TenantErasures
from services.clients.library_state import Library
from services.clients.upload_words import UploadWords
from services.clients.word_packing import WordPacking
from services.clients.words import WordIndex
from tests.clients.examples import picture
from tests.clients.test_words import kept, named, register, words

ORIGINAL = picture("original", trusted=True)


@pytest.fixture
def uploads(database: Database) -> UploadWords:
    return UploadWords(database, "test-1")


async def uploaded(database: Database, uploads: UploadWords, upload: Picture, *numbers: int) -> None:
    await Candidates(database).register(upload)
    await uploads.keep(upload.tenant, upload.image.sha256, words(*numbers))


async def sharing(uploads: UploadWords, original: Picture, *numbers: int) -> set[str]:
    """Contents that share one of these words with the original."""
    shared = await uploads.shared(original.tenant, words(*numbers))
    return set(await uploads.contents(original, sorted(set(shared.numbers.tolist()))))


async def test_an_original_finds_the_uploads_of_its_tenant_that_share_words(
    database: Database, uploads: UploadWords
) -> None:
    near, far, theirs = picture("near"), picture("far"), picture("theirs", tenant="other")
    for upload, number in ((near, 1), (far, 2), (theirs, 1)):
        await uploaded(database, uploads, upload, number)
    assert await sharing(uploads, ORIGINAL, 1) == set()  # it is not registered
    await register(database, ORIGINAL, 1)
    assert await sharing(uploads, ORIGINAL, 1) == {near.image.sha256}


async def test_uploads_are_named_in_the_order_that_is_asked_for(database: Database, uploads: UploadWords) -> None:
    each = [picture(name) for name in ("a", "b", "c")]
    for number, upload in enumerate(each):
        await uploaded(database, uploads, upload, number)
    await register(database, ORIGINAL)
    shared = await uploads.shared("acme", words(0, 1, 2))
    numbers = shared.numbers[shared.features.argsort()].tolist()
    for asked in (numbers, numbers[::-1]):
        contents = [each[numbers.index(number)].image.sha256 for number in asked]
        assert await uploads.contents(ORIGINAL, asked) == contents


async def test_an_original_on_the_stop_list_finds_none(database: Database, uploads: UploadWords) -> None:
    await uploaded(database, uploads, picture("near"), 1)
    await register(database, ORIGINAL, 1)
    async with database.connection() as connection:
        await connection.execute(
            "insert into stop_entry (tenant, reason, trusted, pdq, radius, seen) "
            "values ('acme', 'crowded', true, repeat('0', 256)::bit(256), 72, 51)"
        )
        await connection.execute("update candidate set stopped_by = (select id from stop_entry) where trusted")
    assert await sharing(uploads, ORIGINAL, 1) == set()


async def test_no_upload_is_found_or_counted_as_an_original_by_its_words(
    database: Database, uploads: UploadWords
) -> None:
    index = WordIndex(database, "test-1")
    await uploaded(database, uploads, picture("upload"), 1)
    assert await index.empty("acme")
    assert await named(index, "acme", words(1)) == {}
    await Candidates(database).register(ORIGINAL)
    await uploads.keep("acme", ORIGINAL.image.sha256, words(1))  # an original's content, which nobody uploaded
    assert [each.original_id for each in await index.missing(None, limit=9)] == ["id-original"]
    await index.add(ORIGINAL, words(1))
    assert await named(index, "acme", words(1)) == {"id-original": [0]}
    (counted,) = (await Library(database).state()).words
    assert (counted.tenant, counted.vocabulary, counted.pictures) == ("acme", "test-1", 1)


async def test_a_content_that_is_uploaded_again_is_kept_once(database: Database, uploads: UploadWords) -> None:
    for number in range(2):
        await uploaded(database, uploads, picture("same", original_id=f"u-{number}", minutes=-number), 1, 2)
    assert await kept(database) == 2


async def test_an_upload_that_is_an_original_too_has_words_as_either(database: Database, uploads: UploadWords) -> None:
    await uploaded(database, uploads, picture("original"), 1)
    await register(database, ORIGINAL, 1)
    assert await sharing(uploads, ORIGINAL, 1) == {ORIGINAL.image.sha256}
    await Originals(database).remove("acme", ["id-original"])
    assert await kept(database) == 1
    await register(database, ORIGINAL, 1)
    assert await sharing(uploads, ORIGINAL, 1) == {ORIGINAL.image.sha256}


@pytest.mark.parametrize("packed", [False, True])
async def test_a_withdrawn_upload_takes_its_words_along_and_gets_no_others(
    database: Database, uploads: UploadWords, packed: bool
) -> None:
    rejected, other = picture("rejected"), picture("other")
    await uploaded(database, uploads, rejected, 1, 2)
    await uploaded(database, uploads, other, 2)
    if packed:
        await WordPacking(database).pack()
    await Candidates(database).withdraw(rejected)
    await uploads.keep("acme", rejected.image.sha256, words(1, 2))  # it was being looked at
    await register(database, ORIGINAL)
    assert await sharing(uploads, ORIGINAL, 1, 2) == {other.image.sha256}
    assert await kept(database) == 1


async def test_an_erased_tenants_uploads_leave_no_words(database: Database, uploads: UploadWords) -> None:
    await uploaded(database, uploads, picture("one"), 1)
    await uploaded(database, uploads, picture("theirs", tenant="other"), 1, 2)
    await WordPacking(database).pack()
    await TenantErasures(database).remove_words("acme")
    await TenantErasures(database).remove_rest("acme")
    assert await kept(database) == 2
