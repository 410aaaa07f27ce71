"""Overview, search and upload tell nobody of another tenant, and what somebody did there is written down."""

from __future__ import annotations

import pytest

from services.clients.audit import AuditFilter
from services.core.access import Role
from tests.access.conftest import PAGE, House
from tests.web.conftest import Gallery, photo


@pytest.mark.parametrize(
    "path",
    [
        "/overview?tenant={tenant}",
        "/overview/library?tenant={tenant}",
        "/api/v1/overview/library?tenant={tenant}",
        "/api/v1/overview/verdicts?tenant={tenant}",
        "/search?tenant={tenant}",
        "/api/v1/search?tenant={tenant}",
        "/api/v1/search/export?tenant={tenant}",
        "/api/v1/uploads/{tenant}/theirs",
        "/api/v1/originals/{tenant}/theirs",
    ],
)
async def test_what_is_anothers_is_not_there(house: House, gallery: Gallery, path: str) -> None:
    await gallery.no_evidence("theirs", 76)
    address = path.format(tenant=gallery.tenant)
    async with house.calling() as program:
        theirs = await program.get(address, headers={**await house.bearer(Role.LEAD, gallery.tenant), **PAGE})
        assert theirs.status_code == 200
        others = await program.get(address, headers=await house.bearer(Role.ADMIN, "other"))
        assert others.status_code == 404


async def test_the_live_feed_of_another_tenant_is_not_there(house: House, gallery: Gallery) -> None:
    async with house.calling() as program:
        headers = await house.bearer(Role.ADMIN, "other")
        answer = await program.get(f"/api/v1/verdicts/live?tenant={gallery.tenant}", headers=headers)
    assert answer.status_code == 404


async def test_a_search_without_a_tenant_finds_the_own_ones_alone(house: House, gallery: Gallery) -> None:
    mine = Gallery(house.parts, f"{gallery.tenant}-mine")
    await gallery.no_evidence("theirs", 77)
    await mine.no_evidence("mine", 78)
    headers = await house.bearer(Role.LEAD, mine.tenant)
    async with house.calling() as program:
        found = (await program.get("/api/v1/search?limit=200", headers=headers)).json()
        exported = (await program.get("/api/v1/search/export", headers=headers)).text
        counted = (await program.get("/api/v1/overview/verdicts?by=tenant&hours=8784", headers=headers)).json()
    assert [verdict["upload_id"] for verdict in found["verdicts"]] == ["mine"]
    assert found["count"] == 1
    assert "theirs" not in exported
    assert {kind["name"] for kind in counted["kinds"]} <= {mine.tenant}


async def test_dead_letters_and_reports_are_not_there_for_who_sees_only_some_tenants(house: House) -> None:
    async with house.calling() as program:
        headers = await house.bearer(Role.ADMIN, "acme")
        for path in ("/overview/dead-letters", "/api/v1/overview/dead-letters", "/overview/rounds/1/report"):
            assert (await program.get(path, headers=headers)).status_code == 404


async def test_nobody_registers_an_original_for_another_tenant(house: House) -> None:
    files = {"image": ("a.jpg", photo(79))}
    async with house.calling() as program:
        headers = await house.bearer(Role.ADMIN, "acme")
        answer = await program.post("/api/v1/originals", files=files, data={"tenant": "other"}, headers=headers)
        assert answer.status_code == 404


async def test_exports_and_originals_are_in_the_audit_log_before_they_go_out(house: House, gallery: Gallery) -> None:
    """Kafka is not there: the original goes nowhere, and that somebody wanted it to is written down nevertheless."""
    tenant = gallery.tenant
    async with house.calling() as program:
        lead, admin = await house.bearer(Role.LEAD, tenant), await house.bearer(Role.ADMIN, tenant)
        await program.get(f"/api/v1/search/export?tenant={tenant}&upload=secret-id", headers=lead)
        files, form = {"image": ("a.jpg", photo(80))}, {"tenant": tenant}
        assert (await program.post("/api/v1/originals", files=files, data=form, headers=admin)).status_code >= 500
    entries = await house.parts.audit.find(AuditFilter(tenant=tenant))
    assert [entry.action for entry in reversed(entries)] == ["search_exported", "original_registered"]
    assert entries[-1].details == {"format": "csv", "asked": ["tenant", "upload"]}
