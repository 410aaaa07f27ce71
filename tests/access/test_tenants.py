"""Nobody reads what belongs to another tenant: it is answered like something that never was."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.core.access import Role
from tests.access.conftest import PAGE, House
from tests.web.conftest import Gallery, photo


@pytest.mark.parametrize(
    "path",
    [
        "/verdicts/{tenant}/theirs",
        "/api/v1/verdicts/{tenant}/theirs",
        "/pictures/upload/{tenant}/theirs",
        "/pictures/original/{tenant}/theirs",
        "/pictures/mask/{tenant}/theirs",
        "/?tenant={tenant}",
        "/api/v1/verdicts?tenant={tenant}",
    ],
)
@pytest.mark.parametrize("role", [Role.VIEWER, Role.ADMIN])
async def test_anothers_upload_is_not_there(house: House, gallery: Gallery, path: str, role: Role) -> None:
    await gallery.manipulated("theirs", 71)
    address = path.format(tenant=gallery.tenant)
    async with house.calling() as program:
        theirs = await program.get(address, headers={**await house.bearer(role, gallery.tenant), **PAGE})
        assert theirs.status_code == 200
        others = await program.get(address, headers=await house.bearer(role, "other"))
        assert others.status_code == 404


@pytest.mark.parametrize(
    "path", ["review/queue", "review/stats", "review/honeypots", "webhooks", "overview/verdicts", "live", "audit"]
)
async def test_a_tenant_that_nobody_can_have_is_not_there(house: House, path: str) -> None:
    async with house.calling() as program:
        answer = await program.get(f"/api/v1/{path}?tenant=a%00b", headers=await house.bearer(Role.ADMIN))
    assert answer.status_code in {404, 422}
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_missing_upload_and_anothers_are_answered_alike(house: House, gallery: Gallery) -> None:
    await gallery.no_evidence("theirs", 72)
    headers = await house.bearer(Role.LEAD, "other")
    async with house.calling() as program:
        kept = (await program.get(f"/api/v1/verdicts/{gallery.tenant}/theirs", headers=headers)).json()
        none = (await program.get(f"/api/v1/verdicts/{gallery.tenant}/nothere", headers=headers)).json()
    assert {**kept, "instance": "", "detail": ""} == {**none, "instance": "", "detail": ""}
    assert kept["detail"].replace("theirs", "nothere") == none["detail"]


async def test_lists_and_counts_hold_the_own_tenants_alone(house: House, gallery: Gallery) -> None:
    other = Gallery(house.parts, f"tenant-{uuid4().hex[:12]}")
    await gallery.no_evidence("mine", 73)
    await other.manipulated("theirs", 74)
    headers = await house.bearer(Role.VIEWER, gallery.tenant)
    async with house.calling() as program:
        found = (await program.get("/api/v1/verdicts?limit=200", headers=headers)).json()["verdicts"]
        page = (await program.get("/", headers={**headers, **PAGE})).text
        both = await house.bearer(Role.VIEWER, gallery.tenant, other.tenant)
        together = (await program.get("/api/v1/verdicts?limit=200", headers=both)).json()["verdicts"]
    assert [verdict["upload_id"] for verdict in found] == ["mine"]
    assert "theirs" not in page
    assert "All <b>1</b>" in page
    assert {verdict["upload_id"] for verdict in together} == {"mine", "theirs"}


async def test_nobody_uploads_for_another_tenant(house: House) -> None:
    files = {"image": ("a.jpg", photo(75))}
    async with house.calling() as program:
        for tenant in ("other", "default"):
            headers = await house.bearer(Role.MODERATOR, "acme", "labs")
            answer = await program.post("/api/v1/uploads", files=files, data={"tenant": tenant}, headers=headers)
            assert answer.status_code == 404
        none = await program.post("/api/v1/uploads", files=files, headers=headers)
        assert none.status_code == 404  # of two tenants, neither is called default


async def test_metrics_are_for_administrators_and_probes_for_everybody(house: House) -> None:
    async with house.calling() as program:
        assert (await program.get("/metrics", headers=await house.bearer(Role.LEAD))).status_code == 403
        assert (await program.get("/metrics", headers=await house.bearer(Role.ADMIN))).status_code == 200
        assert (await program.get("/healthz")).status_code == 200
