"""The upload page, and how far an upload has come.

In: an upload's tenant and id. Out: the page whose script sends files and follows them, and the stage that one is at,
told by the rows that it has left: on its way, looked up, judged, to be looked at.
"""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from services.clients.activity import Activity, Progress
from services.core.access import Role
from services.web.access import DEFAULT_TENANT, Who, at_least, seen
from services.web.pages import render, verdict_link
from services.web.parts import Options, Parts


class Stage(BaseModel):
    """Where an upload is. `unknown`: it waits in Kafka, or was never sent. `verdict` is there once it is `shown`."""

    upload_id: str
    tenant: str
    stage: Progress
    verdict: str | None = None
    page: str | None = None


def router(parts: Parts, options: Options) -> APIRouter:
    """The page and its question."""
    routes = APIRouter()
    activity = Activity(parts.database)

    @routes.get(
        "/upload",
        include_in_schema=False,
        response_class=HTMLResponse,
        dependencies=[Depends(at_least(Role.MODERATOR))],
    )
    async def page(person: Who) -> HTMLResponse:
        tenants = None if person.tenants is None else sorted(person.tenants)
        values = {
            "tenants": tenants,
            "tenant": DEFAULT_TENANT if tenants is None else tenants[0] if tenants else "",
            "admin": person.may(Role.ADMIN),
            "max_bytes": options.max_bytes,
        }
        return render("upload.html", values)

    @routes.get(
        "/api/v1/uploads/{tenant}/{upload_id:path}",
        response_model_exclude_none=True,
        dependencies=[Depends(at_least(Role.VIEWER))],
    )
    async def progress(person: Who, tenant: str, upload_id: str) -> Stage:
        """How far an upload has come."""
        stage = await activity.progress(seen(person, tenant), upload_id.replace("\x00", ""))
        shown = stage == "shown"
        return Stage(
            upload_id=upload_id,
            tenant=tenant,
            stage=stage,
            verdict=verdict_link(tenant, upload_id, api=True) if shown else None,
            page=verdict_link(tenant, upload_id) if shown else None,
        )

    return routes
