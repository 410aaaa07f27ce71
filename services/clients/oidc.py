"""Sign-in at an OpenID provider: the authorization code flow with PKCE, by Authlib.

In: an issuer that the settings name, a client id and secret; then what a browser brings back. Out: the address to send
the browser to, and the claims of whoever signed in, verified: signature, issuer, audience, times, nonce. Nothing that
the provider says is taken from anywhere but the issuer's own discovery document.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
from authlib.deprecate import AuthlibDeprecationWarning
from authlib.integrations.base_client.errors import OAuthError
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from services.clients.signins import Flow
from services.core.errors import Broken, Unavailable

with warnings.catch_warnings():  # it prefers httpx's successor, and says so to whoever starts the web process
    warnings.simplefilter("ignore", AuthlibDeprecationWarning)
    from authlib.integrations.httpx_client import AsyncOAuth2Client

DISCOVERED_FOR_S = 3600.0
KEYS_AGAIN_S = 30.0  # a token with an unknown key makes us look for new ones, but not at the pace of whoever sends them
LEEWAY_S = 60
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures by a key pair. Never `none`, and nothing that is signed with the client's own secret."""


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Who we are to the provider. `issuer` is the one that is trusted: https, or http on loopback."""

    issuer: str
    client_id: str
    client_secret: str | None
    redirect_url: str
    scopes: tuple[str, ...]
    claim: str
    timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class SignInFailed:
    """A sign-in that is not what it should be. `why` goes to the audit log, not to whoever tried."""

    why: str


class Provider:
    """Raises `Unavailable` where the provider is away, `Broken` where its discovery document is not to be trusted."""

    def __init__(self, options: ProviderOptions) -> None:
        self._options = options
        self._metadata: dict[str, Any] = {}
        self._metadata_at = float("-inf")
        self._keys: KeySet | None = None
        self._keys_at = float("-inf")

    async def address(self, flow: Flow) -> str:
        """Where to send the browser."""
        metadata = await self._discovered()
        async with self._client() as client:
            address, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=flow.state, nonce=flow.nonce, code_verifier=flow.verifier
            )
        return str(address)

    async def claims(self, code: str, flow: Flow, *, issuer: str | None) -> Mapping[str, Any] | SignInFailed:
        """The claims of whoever came back with this code. `issuer`: what the redirect says of itself, if it does."""
        metadata = await self._discovered()
        says = metadata.get("authorization_response_iss_parameter_supported") is True
        if issuer != self._options.issuer and (says or issuer is not None):
            return SignInFailed("the answer is another issuer's")
        async with self._client() as client:
            try:
                token = await client.fetch_token(metadata["token_endpoint"], code=code, code_verifier=flow.verifier)
                claims = await self._verified(token, flow)
                return await self._completed(client, claims)
            except OAuthError as error:
                return SignInFailed(f"{error.error}: {error.description}")
            except (JoseError, ValueError) as error:
                return SignInFailed(f"the ID token does not hold: {error}")
            except httpx.HTTPError as error:
                raise _away(error) from error

    async def _verified(self, token: Mapping[str, Any], flow: Flow) -> dict[str, Any]:
        if not isinstance(text := token.get("id_token"), str):
            raise ValueError("there is none")
        registry = JWSRegistry(algorithms=list(ALGORITHMS), strict_check_header=False)
        try:
            decoded = jwt.decode(text, await self._key_set(), registry=registry)
        except (JoseError, ValueError):  # perhaps by a key that is new
            decoded = jwt.decode(text, await self._key_set(again=True), registry=registry)
        wanted = {
            "iss": {"essential": True, "value": self._options.issuer},
            "aud": {"essential": True, "value": self._options.client_id},
            "nonce": {"essential": True, "value": flow.nonce},
        }
        known = {"client_id": self._options.client_id, "nonce": flow.nonce, "access_token": token.get("access_token")}
        claims = CodeIDToken(decoded.claims, decoded.header, wanted, known)
        claims.validate(leeway=LEEWAY_S)
        return dict(claims)

    async def _completed(self, client: AsyncOAuth2Client, claims: dict[str, Any]) -> dict[str, Any]:
        """With what the userinfo endpoint adds, where the ID token does not have the claim that decides."""
        endpoint = self._metadata.get("userinfo_endpoint")
        if self._options.claim in claims or endpoint is None:
            return claims
        answer = await client.get(endpoint)
        answer.raise_for_status()
        added = answer.json()
        if not isinstance(added, dict) or added.get("sub") != claims["sub"]:
            raise ValueError("the user info is about somebody else")
        return {**added, **claims}

    async def _discovered(self) -> dict[str, Any]:
        if time.monotonic() - self._metadata_at < DISCOVERED_FOR_S:
            return self._metadata
        issuer = self._options.issuer
        found = await self._fetched(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise Broken(
                f"the OpenID provider calls itself {found.get('issuer')!r}, PENTIMENTO_LOGIN__ISSUER says {issuer!r}"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint"):
            address = found.get(name)
            if (address is None and name != "userinfo_endpoint") or (address is not None and not is_private(address)):
                raise Broken(f"the OpenID provider's {name} is no https address: {address!r}")
        self._metadata, self._metadata_at = found, time.monotonic()
        return found

    async def _key_set(self, *, again: bool = False) -> KeySet:
        age_s = time.monotonic() - self._keys_at
        if self._keys is None or age_s > DISCOVERED_FOR_S or (again and age_s > KEYS_AGAIN_S):
            found = await self._fetched(self._metadata["jwks_uri"])
            self._keys, self._keys_at = KeySet.import_key_set(found), time.monotonic()  # type: ignore[arg-type]
        return self._keys

    async def _fetched(self, address: str) -> dict[str, Any]:
        try:
            async with httpx.AsyncClient(timeout=self._options.timeout_s, follow_redirects=False) as client:
                answer = await client.get(address)
                answer.raise_for_status()
                found = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise _away(error) from error
        if not isinstance(found, dict):
            raise Broken(f"the OpenID provider's {address} is no JSON object")
        return found

    def _client(self) -> AsyncOAuth2Client:
        options = self._options
        return AsyncOAuth2Client(
            client_id=options.client_id,
            client_secret=options.client_secret,
            token_endpoint_auth_method="client_secret_basic" if options.client_secret else "none",
            scope=" ".join(options.scopes),
            redirect_uri=options.redirect_url,
            code_challenge_method="S256",
            timeout=options.timeout_s,
            follow_redirects=False,
        )


def is_private(address: object) -> bool:
    """Whether nobody on the way can read what is sent to this address: https, or loopback."""
    url = urlsplit(str(address))
    return url.scheme == "https" or (url.scheme == "http" and url.hostname in ("127.0.0.1", "localhost", "::1"))


def _away(error: Exception) -> Unavailable:
    return Unavailable("openid provider", f"the OpenID provider does not answer: {error}")
