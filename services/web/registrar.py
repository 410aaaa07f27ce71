"""What administrators do about people and tokens, by page or by API: checked, written down, done.

In: who gives and what. Out: the account or token as it is now, or a refusal. Nobody gives more than they have, nor
changes somebody whom they could not have added; nobody locks themselves out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from services.clients.accounts import Account, People
from services.clients.database import storable
from services.clients.sessions import Sessions
from services.clients.signins import SignIns
from services.clients.tokens import ApiToken, Tokens
from services.core.access import EVERYTHING, Grant, Person, is_subject, is_tenant
from services.web.parts import Parts
from services.web.problems import Refused


@dataclass(frozen=True, slots=True)
class Registrar:
    """Every method raises Refused where it is not allowed or does not fit."""

    parts: Parts
    sessions: Sessions
    public_url: str | None = None

    async def shown(self, giver: Person, *, after: str = "", limit: int = 200) -> list[Account]:
        """The accounts that somebody could have added, by subject."""
        shown: list[Account] = []
        while True:
            found = await People(self.parts.database).all(limit=limit, after=after)
            shown += [account for account in found if giver.may_grant(account.role, account.tenants)]
            if len(found) < limit or len(shown) >= limit:
                return shown[:limit]
            after = found[-1].subject

    async def add(self, giver: Person, account: Account) -> Account:
        """A new account, for one-time links."""
        if not is_subject(account.subject):
            text = f"{account.subject!r} is no name to sign in by: a word of letters, digits and . _ @ + -"
            raise Refused(422, "invalid_subject", text)
        _check_grant(giver, account.grant)
        if await People(self.parts.database).get(account.subject) is not None:
            raise Refused(409, "subject_taken", f"There is somebody by the name {account.subject!r} already.")
        await self.parts.audit.record(giver, "person_added", details=_said(account))
        if not await People(self.parts.database).add(account):
            raise Refused(409, "subject_taken", f"There is somebody by the name {account.subject!r} already.")
        return account

    async def change(
        self, giver: Person, subject: str, *, grant: Grant | None = None, disabled: bool | None = None
    ) -> Account:
        """Another role, other tenants, disabled or not. What a provider's claims decide can only be disabled."""
        account = await self.find(giver, subject)
        if subject == giver.subject:
            raise Refused(409, "own_account", "Nobody changes their own account: ask another administrator.")
        if grant is not None and account.origin == "oidc" and grant != account.grant:
            text = f"The provider's claims decide about {account.name}: change them there, or disable the account."
            raise Refused(409, "provider_decides", text)
        wanted = grant or account.grant
        if wanted != account.grant:  # also whoever has no tenants, as a provider's claims may have it, can be disabled
            _check_grant(giver, wanted)
        changed = replace(
            account,
            role=wanted.role,
            tenants=wanted.tenants,
            disabled=account.disabled if disabled is None else disabled,
        )
        await self.parts.audit.record(giver, "person_changed", details=_said(changed))
        await People(self.parts.database).change(changed)
        if changed.disabled:
            await self.sessions.end(subject)
        return changed

    async def link(self, giver: Person, subject: str, *, base: str) -> str:
        """A one-time link for somebody: at the public URL, or at `base` where none is set."""
        account = await self.find(giver, subject)
        if account.origin == "oidc":
            raise Refused(409, "provider_decides", f"{account.name} signs in at the OpenID provider.")
        if account.disabled:
            raise Refused(409, "disabled", f"The account of {account.name} is disabled.")
        await self.parts.audit.record(giver, "link_made", details={"subject": subject})
        ticket = await SignIns(self.parts.database).invite(subject, self.parts.now())
        return f"{(self.public_url or base).rstrip('/')}/enter#{ticket}"

    async def sign_out(self, giver: Person, subject: str) -> int:
        """End all sessions of somebody. How many there were."""
        await self.find(giver, subject)
        await self.parts.audit.record(giver, "sessions_ended", details={"subject": subject})
        return await self.sessions.end(subject)

    async def find(self, giver: Person, subject: str) -> Account:
        """An account that they may change."""
        account = await People(self.parts.database).get(storable(subject))
        if account is None or not giver.may_grant(account.role, account.tenants):
            raise Refused(404, "no_person", f"There is nobody by the name {subject!r} whom you may change.")
        return account

    async def issue(
        self, giver: Person, name: str, grant: Grant, *, owner: str | None = None, days: int | None = None
    ) -> tuple[str, ApiToken]:
        """A new token and its secret, which is shown this once."""
        if not name.strip():
            raise Refused(422, "invalid_name", "A token needs a name, to be known by in the list and in the audit log.")
        _check_grant(giver, grant)
        now = self.parts.now()
        expires_at = None if days is None else now + timedelta(days=days)
        said = {"token": name, **_given(grant), "owner": owner, "days": days}
        await self.parts.audit.record(giver, "token_created", details=said)
        return await Tokens(self.parts.database).create(name, grant, owner=owner, now=now, expires_at=expires_at)

    async def tokens(self, giver: Person) -> list[ApiToken]:
        """The tokens that they could have made."""
        found = await Tokens(self.parts.database).all()
        return [token for token in found if giver.may_grant(token.role, token.tenants)]

    async def revoke(self, giver: Person, token_id: int, *, owner: str | None = None) -> None:
        """End a token at once; with `owner` only one of theirs."""
        token = await Tokens(self.parts.database).get(token_id)
        allowed = token is not None and (
            token.owner == owner if owner is not None else giver.may_grant(token.role, token.tenants)
        )
        if token is None or not allowed:
            raise Refused(404, "no_token", f"There is no token {token_id} that you may revoke.")
        await self.parts.audit.record(giver, "token_revoked", details={"token": token.name, "id": token_id})
        await Tokens(self.parts.database).revoke(token_id, self.parts.now())


def _check_grant(giver: Person, grant: Grant) -> None:
    if grant.tenants is not None and not (grant.tenants and all(map(is_tenant, grant.tenants))):
        raise Refused(422, "invalid_tenants", f"Name tenants, or {EVERYTHING} for all of them.")
    if not giver.may_grant(grant.role, grant.tenants):
        raise Refused(403, "beyond_own_rights", "Nobody gives a role or tenants that they do not have.")


def _given(grant: Grant) -> dict[str, Any]:
    return {"role": grant.role.value, "tenants": "*" if grant.tenants is None else sorted(grant.tenants)}


def _said(account: Account) -> dict[str, Any]:
    return {"subject": account.subject, **_given(account.grant), "disabled": account.disabled}
