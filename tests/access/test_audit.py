"""The audit log: whoever saw a picture is in it, and it cannot be changed, only read by those who may."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from dataclasses import replace
from html import unescape
from uuid import uuid4

import pytest
from PIL import Image

from services.clients.audit import Audit, AuditFilter
from services.clients.candidates import Candidates
from services.clients.database import Database
from services.clients.erasure import Erasures
from services.clients.late import Uploads
from services.core.access import Person, Role
from services.core.errors import Broken, Unavailable
from services.core.spreadsheet import csv_line, harmless
from services.web.app import create_app
from tests.access.conftest import OPTIONS, PAGE, House
from tests.clients.examples import picture
from tests.web.conftest import Gallery, calling
from tests.web.test_review import MANIPULATED, Office

ADA = Person("ada", "Ada", Role.VIEWER)


async def test_every_view_of_a_picture_is_written_down(house: House, gallery: Gallery) -> None:
    await gallery.manipulated("seen", 61)
    ada = await house.account(Role.VIEWER, gallery.tenant)
    address = f"/pictures/upload/{gallery.tenant}/seen?size=view"
    async with house.signed_in(ada) as browser:
        first = await browser.get(address)
        assert Image.open(io.BytesIO(first.content)).format == "JPEG"
        again = await browser.get(address, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304
        assert "no-cache" in first.headers["cache-control"]  # so that the browser asks before it shows it once more
        await browser.get(f"/pictures/mask/{gallery.tenant}/seen?size=thumb")
    entries = await house.logged(subject=ada.subject, action="picture_viewed")
    assert [(each.tenant, each.upload_id) for each in entries] == [(gallery.tenant, "seen")] * 3
    assert [each.details for each in entries] == [
        {"kind": "mask", "size": "thumb", "revision": 0},
        {"kind": "upload", "size": "view", "revision": 0},
        {"kind": "upload", "size": "view", "revision": 0},
    ]


@pytest.mark.parametrize("headers", [{}, {"if-none-match": "*"}])
async def test_a_picture_whose_view_cannot_be_written_down_is_not_shown(
    house: House, gallery: Gallery, headers: dict[str, str]
) -> None:
    await gallery.manipulated("unseen", 62)
    address = f"/pictures/upload/{gallery.tenant}/unseen"
    bearer = await house.bearer(Role.VIEWER)
    async with house.calling() as program:
        tag = (await program.get(address, headers=bearer)).headers["etag"]
    away = await Database.open("postgresql://127.0.0.1:1/none", pool_size=1, timeout_s=1)
    object.__setattr__(parts := replace(house.parts), "audit", Audit(away))
    async with calling(create_app(parts, OPTIONS)) as program:
        asked = {**bearer, **({"if-none-match": tag} if headers else {})}
        answer = await program.get(address, headers=asked)
    await away.close()
    assert answer.status_code == 503
    assert not answer.content.startswith(b"\xff\xd8")


async def test_entries_that_come_at_once_are_all_kept_in_their_order(access_database: Database) -> None:
    audit, tenant = Audit(access_database), uuid4().hex
    await asyncio.gather(
        *(audit.record(ADA, "looked", tenant=tenant, upload_id=f"u-{n}", details={"n": n}) for n in range(450))
    )
    entries = await audit.find(AuditFilter(tenant=tenant), limit=1000)
    assert [entry.details["n"] for entry in entries] == list(range(449, -1, -1))
    assert [entry.upload_id for entry in entries[:2]] == ["u-449", "u-448"]


async def test_an_entry_that_cannot_be_stored_is_an_error_and_the_next_one_is_stored(access_database: Database) -> None:
    audit, tenant = Audit(access_database), uuid4().hex
    bad = audit.record(ADA, "looked", tenant=f"{tenant}\x00")
    good = audit.record(ADA, "looked", tenant=tenant)
    outcomes = await asyncio.gather(bad, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Broken]
    await good
    assert len(await audit.find(AuditFilter(tenant=tenant))) == 1


async def test_an_entry_that_is_no_json_is_an_error_and_the_next_one_is_stored(access_database: Database) -> None:
    audit, tenant = Audit(access_database), uuid4().hex
    async with asyncio.timeout(30):
        with pytest.raises(TypeError, match="not JSON serializable"):
            await audit.record(ADA, "looked", tenant=tenant, details={"what": object()})
        await audit.record(ADA, "looked", tenant=tenant)
    assert len(await audit.find(AuditFilter(tenant=tenant))) == 1


async def test_a_database_that_is_away_is_said_to_whoever_wanted_to_write() -> None:
    away = await Database.open("postgresql://127.0.0.1:1/none", pool_size=1, timeout_s=1)
    with pytest.raises(Unavailable):
        await Audit(away).record(ADA, "looked")
    await away.close()


@pytest.mark.parametrize(
    "statement",
    ["update audit set subject = 'eve'", "delete from audit", "truncate audit", "delete from audit where id < 0"],
)
async def test_the_table_refuses_every_change(access_database: Database, statement: str) -> None:
    await Audit(access_database).record(ADA, "looked")
    with pytest.raises(Broken, match="append-only"):
        async with access_database.connection() as connection:
            await connection.execute(statement)


async def test_an_erasure_takes_the_pictures_name_and_leaves_the_entry(access_database: Database) -> None:
    tenant = uuid4().hex
    seen = picture("erased", original_id="u-erased", tenant=tenant)
    await Candidates(access_database).register(seen)
    await Uploads(access_database).remember(tenant, "u-erased", seen.image.sha256)
    audit = Audit(access_database)
    for upload_id in ("u-erased", "u-kept"):
        await audit.record(ADA, "picture_viewed", tenant=tenant, upload_id=upload_id, details={"kind": "upload"})
    before = await audit.find(AuditFilter(tenant=tenant))
    async with Erasures(access_database).erasing(tenant, seen.image.sha256) as erasing:
        assert erasing.found.counts["audit_upload"] == 1
        assert await erasing.left() == []
    after = await audit.find(AuditFilter(tenant=tenant))
    assert [entry.upload_id for entry in after] == ["u-kept", None]
    assert [replace(entry, upload_id=None) for entry in after] == [replace(entry, upload_id=None) for entry in before]
    assert await audit.find(AuditFilter(tenant=tenant, upload_id="u-erased")) == []


# -- reading it -----------------------------------------------------------------------------------------------------


async def test_the_log_is_read_page_by_page(house: House) -> None:
    tenant = f"t-{uuid4().hex[:8]}"
    for number in range(5):
        await house.parts.audit.record(ADA, "looked", tenant=tenant, details={"n": number})
    headers, seen = await house.bearer(Role.LEAD, tenant), []
    address: str | None = f"/api/v1/audit?tenant={tenant}&limit=2"
    async with house.calling() as program:
        while address is not None:
            page = (await program.get(address, headers=headers)).json()
            seen.append([entry["details"]["n"] for entry in page["entries"]])
            address = page.get("next")
        assert seen == [[4, 3], [2, 1], [0]]
        refused = await program.get("/api/v1/audit?cursor=5", headers=headers)
        assert (refused.status_code, refused.json()["type"]) == (422, "urn:pentimento:problem:invalid_cursor")


async def test_the_page_leads_to_older_entries(house: House) -> None:
    tenant = f"t-{uuid4().hex[:8]}"
    for number in range(101):
        await house.parts.audit.record(ADA, "looked", tenant=tenant, details={"n": number})
    headers = {**await house.bearer(Role.LEAD, tenant), **PAGE}
    async with house.calling() as program:
        first = (await program.get(f"/admin/audit?tenant={tenant}", headers=headers)).text
        (older,) = re.findall(r'rel="next" href="([^"]+)"', first)
        second = (await program.get(unescape(older), headers=headers)).text
    assert [int(number) for number in re.findall(r"<code>n: (\d+)</code>", first)] == [*range(100, 0, -1)]
    assert re.findall(r"<code>n: (\d+)</code>", second) == ["0"]
    assert 'rel="next"' not in second


async def test_a_lead_of_one_tenant_reads_its_entries_alone(house: House) -> None:
    mine, other = f"t-{uuid4().hex[:8]}", f"t-{uuid4().hex[:8]}"
    for tenant in (mine, other, None):
        await house.parts.audit.record(ADA, "looked", tenant=tenant, details={"of": tenant})
    headers = await house.bearer(Role.LEAD, mine)
    async with house.calling() as program:
        found = (await program.get("/api/v1/audit?action=looked", headers=headers)).json()["entries"]
        assert [entry["tenant"] for entry in found] == [mine]
        assert (await program.get(f"/api/v1/audit?tenant={other}", headers=headers)).status_code == 404
        exported = (await program.get("/api/v1/audit/export?format=jsonl&action=looked", headers=headers)).text
    assert [json.loads(line)["tenant"] for line in exported.splitlines()] == [mine]


async def test_the_export_is_whole_harmless_and_written_down_itself(house: House) -> None:
    tenant = f"t-{uuid4().hex[:8]}"
    evil = Person("eve", '=HYPERLINK("http://evil.example")', Role.VIEWER)
    for _ in range(3):
        await house.parts.audit.record(evil, "looked", tenant=tenant, upload_id="@SUM(A1)")
    headers = await house.bearer(Role.LEAD)
    async with house.calling() as program:
        answer = await program.get(f"/api/v1/audit/export?tenant={tenant}", headers=headers)
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["name"], row["upload_id"]) for row in rows] == [
        ('\'=HYPERLINK("http://evil.example")', "'@SUM(A1)")
    ] * 3
    assert (await house.logged(action="audit_exported"))[0].details == {"tenants": f"('{tenant}',)"}


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"
    assert harmless(f"x{cell}") == f"x{cell}"
    assert csv_line([cell, None, 'a "b"']).endswith(',,"a ""b"""\r\n')


async def test_the_page_shows_entries_without_running_them(house: House) -> None:
    tenant = f"t-{uuid4().hex[:8]}"
    evil = Person("eve", "<script>name</script>", Role.VIEWER)
    await house.parts.audit.record(
        evil, "looked", tenant=tenant, upload_id='"><script>id</script>', details={"why": "<script>why</script>"}
    )
    async with house.calling() as program:
        headers = {**await house.bearer(Role.ADMIN), **PAGE}
        page = (await program.get(f"/admin/audit?tenant={tenant}", headers=headers)).text
    assert "<script>" not in page
    assert "&lt;script&gt;name" in page
    assert "&lt;script&gt;why" in page


async def test_a_moderators_decision_is_written_down(house: House, gallery: Gallery) -> None:
    await Office(house.parts, gallery).doubt("doubted", 63)
    nora = await house.account(Role.MODERATOR, gallery.tenant)
    async with house.signed_in(nora) as browser:
        case = (await browser.post("/api/v1/review/next", json={})).json()["case"]
        body = {**MANIPULATED, "upload_id": "doubted", "revision": 0}
        assert (await browser.post(f"/api/v1/review/cases/{case['id']}/decide", json=body)).status_code == 200
    (entry,) = await house.logged(action="review_decided", tenant=gallery.tenant)
    assert (entry.subject, entry.upload_id, entry.details["decision"]) == (nora.subject, "doubted", "manipulated")
