"""Where webhooks are registered, changed, given secrets, and tested: what page, API and command line have in common.

In: registrations and changes, and whose they are. Out: webhooks, and secrets in the clear, this once. A URL is held
against the lists of allowed hosts here already, and again at each delivery. What is changed is written down before; of
a URL only its host, since paths and queries may hold secrets.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

from services.clients.audit import Audit
from services.clients.database import Database
from services.clients.delivery_log import DeliveryLog
from services.clients.fetch import Fetcher
from services.clients.vault import Vault
from services.clients.webhooks import NewWebhook, Webhook, Webhooks
from services.core.access import Person
from services.core.webhooks import SECRET_BYTES, secret_from


class Desk:
    """Registers and changes. `fetcher` only says which URLs are allowed."""

    def __init__(
        self, database: Database, *, audit: Audit, vault: Vault, fetcher: Fetcher, old_secret_s: float
    ) -> None:
        self._webhooks = Webhooks(database)
        self._log = DeliveryLog(database)
        self._audit = audit
        self._vault = vault
        self._fetcher = fetcher
        self._old_secret_s = old_secret_s

    @property
    def ready(self) -> bool:
        """Whether there is a key to seal secrets with; without one nothing can be registered."""
        return self._vault.ready

    async def add(self, person: Person, new: NewWebhook) -> tuple[Webhook, str]:
        """Register a webhook. It and its secret. Raises Rejected (url_not_allowed), Broken where there is no key."""
        self._fetcher.check(new.url)
        webhook_id, secret = uuid4().hex, secret_from(secrets.token_bytes(SECRET_BYTES))
        sealed = self._vault.seal(secret)
        said = {"webhook": webhook_id, "host": urlsplit(new.url).hostname}
        await self._audit.record(person, "webhook_added", tenant=new.tenant, details=said)
        await self._webhooks.add(webhook_id, new, sealed=sealed)
        (made,) = await self._webhooks.find(webhook_id=webhook_id)
        return made, secret

    async def rotate(self, person: Person, webhook: Webhook) -> tuple[str, datetime] | None:
        """A new secret, and until when the one before is valid. None where the webhook is gone."""
        secret = secret_from(secrets.token_bytes(SECRET_BYTES))
        sealed = self._vault.seal(secret)
        await self._record(person, "webhook_rotated", webhook)
        until = await self._webhooks.rotate(webhook.id, sealed=sealed, old_for_s=self._old_secret_s)
        return None if until is None else (secret, until)

    async def change(self, person: Person, webhook: Webhook, state: Literal["active", "paused"]) -> None:
        """Pause a webhook, or let it go on at once, also where it was disabled."""
        await self._record(person, "webhook_paused" if state == "paused" else "webhook_resumed", webhook)
        await self._webhooks.change(webhook.id, state)

    async def remove(self, person: Person, webhook: Webhook) -> None:
        """Forget a webhook, what waits for it, and its log."""
        await self._record(person, "webhook_removed", webhook)
        await self._webhooks.remove(webhook.id)

    async def redrive(self, person: Person, webhook: Webhook, deliveries: Sequence[int] | None = None) -> int:
        """Send dead letters once more; None: all of the webhook's. How many."""
        asked = "all" if deliveries is None else len(deliveries)
        await self._record(person, "webhook_redriven", webhook, deliveries=asked)
        return await self._log.redrive(webhook.id, deliveries)

    async def ping(self, webhook_id: str) -> int | None:
        """Queue a test event. Its delivery's number; None where there is no such webhook, or it is not active."""
        return await self._log.ping(webhook_id, str(uuid4()))

    async def _record(self, person: Person, action: str, webhook: Webhook, **details: str | int) -> None:
        said = {"webhook": webhook.id, **details}
        await self._audit.record(person, action, tenant=webhook.tenant, details=said)
