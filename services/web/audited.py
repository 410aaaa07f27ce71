"""Where pages write down what somebody did: a seam, so that routes need not know what keeps the record.

In: a person and what they did. Out: a line in the record, written before the answer goes out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import structlog

from services.core.access import Person

log = structlog.get_logger()


class Record(Protocol):
    """Keeps who did what."""

    def __call__(
        self,
        person: Person,
        action: str,
        *,
        tenant: str | None = None,
        upload_id: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> Awaitable[None]: ...


async def logged(
    person: Person,
    action: str,
    *,
    tenant: str | None = None,
    upload_id: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Into the log."""
    log.info(
        "audited", person=person.subject, action=action, tenant=tenant, upload_id=upload_id, details=dict(details or {})
    )
