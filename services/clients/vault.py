"""Secrets that have to be read again: sealed before they go into the database.

In: texts, and keys that only the processes know. Out: tokens (Fernet: AES-128-CBC with HMAC-SHA256). The first key
seals, every key opens, so that a key is replaced by putting another before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from services.core.errors import Broken


class Vault:
    """Seals and opens. Without a key it does neither. Raises ValueError for a key that is none."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = MultiFernet([Fernet(key) for key in keys]) if keys else None

    @property
    def ready(self) -> bool:
        """Whether there is a key."""
        return self._keys is not None

    def seal(self, text: str) -> str:
        """The text as nobody without a key can read it. Raises Broken without a key."""
        return self._with_keys().encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text again. Raises Broken where no key fits: sealed with one that is not there any more."""
        try:
            return self._with_keys().decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise Broken("a webhook's secret was sealed with a key that PENTIMENTO_WEBHOOKS__KEYS lacks") from error

    def _with_keys(self) -> MultiFernet:
        if self._keys is None:
            raise Broken("PENTIMENTO_WEBHOOKS__KEYS is empty: webhook secrets can be neither sealed nor opened")
        return self._keys
