"""The pages of review: the queue, one case, and figures for leads.

In: nothing but who asks. Out: pages that talk to `/api/v1/review` and to `/evidence/view`: the next case comes without
a new page. Whether somebody may see a case is the API's to say.
"""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Depends
from starlette.responses import HTMLResponse

from services.core.access import Role
from services.web.access import Who, at_least
from services.web.pages import render


def router() -> APIRouter:
    """The pages."""
    routes = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)

    @routes.get("/review", dependencies=[Depends(at_least(Role.MODERATOR))])
    async def queue(person: Who) -> HTMLResponse:
        return render("review.html", {"is_lead": person.may(Role.LEAD)})

    @routes.get("/review/case/{case_id}", dependencies=[Depends(at_least(Role.MODERATOR))])
    async def case(person: Who, case_id: UUID) -> HTMLResponse:
        return render("review_case.html", {"case_id": str(case_id), "is_lead": person.may(Role.LEAD)})

    @routes.get("/review/stats", dependencies=[Depends(at_least(Role.LEAD))])
    async def stats() -> HTMLResponse:
        return render("review_stats.html", {})

    return routes
