"""Where webhooks are registered, given secrets, and tested: what page, API and command line have in common.

In: registrations. Out: webhooks, and secrets in the clear, this once. A URL is held against the lists of allowed hosts
here already, and again at each delivery.
"""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import uuid4

from services.clients.database import Database
from services.clients.delivery_log import DeliveryLog
from services.clients.fetch import Fetcher
from services.clients.vault import Vault
from services.clients.webhooks import NewWebhook, Webhook, Webhooks
from services.core.webhooks import SECRET_BYTES, secret_from


class Desk:
    """Registers and renews. `fetcher` only says which URLs are allowed."""

    def __init__(self, database: Database, *, vault: Vault, fetcher: Fetcher, old_secret_s: float) -> None:
        self._webhooks = Webhooks(database)
        self._log = DeliveryLog(database)
        self._vault = vault
        self._fetcher = fetcher
        self._old_secret_s = old_secret_s

    @property
    def ready(self) -> bool:
        """Whether there is a key to seal secrets with; without one nothing can be registered."""
        return self._vault.ready

    async def add(self, new: NewWebhook) -> tuple[Webhook, str]:
        """Register a webhook. It and its secret. Raises Rejected (url_not_allowed), Broken where there is no key."""
        self._fetcher.check(new.url)
        webhook_id, secret = uuid4().hex, secret_from(secrets.token_bytes(SECRET_BYTES))
        await self._webhooks.add(webhook_id, new, sealed=self._vault.seal(secret))
        (made,) = await self._webhooks.find(webhook_id=webhook_id)
        return made, secret

    async def rotate(self, webhook_id: str) -> tuple[str, datetime] | None:
        """A new secret, and until when the one before is valid. None where there is no such webhook."""
        secret = secret_from(secrets.token_bytes(SECRET_BYTES))
        sealed = self._vault.seal(secret)
        until = await self._webhooks.rotate(webhook_id, sealed=sealed, old_for_s=self._old_secret_s)
        return None if until is None else (secret, until)

    async def ping(self, webhook_id: str) -> int | None:
        """Queue a test event. Its delivery's number; None where there is no such webhook, or it is not active."""
        return await self._log.ping(webhook_id, str(uuid4()))
