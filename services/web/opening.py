"""How people come in, made from the settings.

In: the sections `web` and `login`. Out: `SignInOptions`. Raises ValueError where they do not fit together, so that a
half-configured login ends the process at the start instead of letting in too many, or nobody.
"""

from __future__ import annotations

from datetime import timedelta

from services.clients.oidc import Provider, ProviderOptions, is_private
from services.core.access import ClaimRules
from services.settings import LoginSettings, Settings
from services.web.parts import SignInOptions

CALLBACK = "/login/oidc/callback"


def sign_in_options(settings: Settings) -> SignInOptions:
    """Raises ValueError with the variable to set."""
    login, public_url = settings.login, (settings.web.public_url or "").rstrip("/") or None
    if public_url is not None and not is_private(public_url):
        raise ValueError(f"PENTIMENTO_WEB__PUBLIC_URL is {public_url!r}: https, or http on loopback, is needed")
    return SignInOptions(
        open_on_loopback=settings.web.open_on_loopback,
        public_url=public_url,
        provider=None if login.issuer is None else Provider(_provider(login, login.issuer, public_url)),
        provider_name=login.name,
        claims=ClaimRules(login.claim, login.roles, login.tenants),
        idle=timedelta(seconds=login.idle_s),
        lasts=timedelta(seconds=login.session_s),
        attempts=login.attempts,
        attempts_within=timedelta(seconds=login.attempts_within_s),
    )


def _provider(login: LoginSettings, issuer: str, public_url: str | None) -> ProviderOptions:
    if public_url is None:
        raise ValueError(
            "PENTIMENTO_LOGIN__ISSUER is set: set PENTIMENTO_WEB__PUBLIC_URL, where the provider leads back to"
        )
    if not is_private(issuer):
        raise ValueError(f"PENTIMENTO_LOGIN__ISSUER is {issuer!r}: https, or http on loopback, is needed")
    if not login.roles:
        raise ValueError("PENTIMENTO_LOGIN__ISSUER is set: set PENTIMENTO_LOGIN__ROLES, or nobody has access")
    return ProviderOptions(
        issuer=issuer,
        client_id=login.client_id,
        client_secret=_secret(login),
        redirect_url=public_url + CALLBACK,
        scopes=("openid", *(scope for scope in login.scopes if scope != "openid")),
        claim=login.claim,
    )


def _secret(login: LoginSettings) -> str | None:
    if login.client_secret is not None:
        return login.client_secret.get_secret_value()
    if login.client_secret_file is None:
        return None
    try:
        return login.client_secret_file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"PENTIMENTO_LOGIN__CLIENT_SECRET_FILE cannot be read: {error.strerror}") from error
