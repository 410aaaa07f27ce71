"""The gate's report of a round: a page that the trainer wrote, with pictures, shown as it is and allowed nothing.

In: a round's number. Out: its `report.html` in a sandbox without scripts, forms or requests. Its pictures may be of any
tenant, so it is for leads that may see all of them.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from services.clients.rounds import Rounds
from services.core.access import Person, Role
from services.core.errors import Rejected
from services.web.access import at_least
from services.web.paging import LARGEST_ID
from services.web.parts import Parts
from services.web.problems import Refused

REPORT_BYTES = 40_000_000
SANDBOX = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"


def router(parts: Parts) -> APIRouter:
    """The one route."""
    routes = APIRouter()
    rounds = Rounds(parts.database)

    @routes.get("/overview/rounds/{number}/report", include_in_schema=False)
    async def report(
        number: Annotated[int, Path(ge=1, le=LARGEST_ID - 1)], person: Annotated[Person, Depends(at_least(Role.LEAD))]
    ) -> Response:
        key = next((each.report_key for each in await rounds.newest(1, before=number + 1) if each.id == number), None)
        if key is None or person.tenants is not None:
            raise Refused(404, "no_report", f"There is no report of round {number} that you may see.")
        try:
            page = await parts.objects.get(f"{key}/report.html", REPORT_BYTES)
        except Rejected as error:
            raise Refused(404, "no_report", f"The report of round {number} is not in the store any more.") from error
        return Response(page, media_type="text/html; charset=utf-8", headers={"content-security-policy": SANDBOX})

    return routes
