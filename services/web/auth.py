"""Who may come in: a bearer token for programs, a signed cookie for people, and nobody from a foreign page.

In: the token (or none) and a request's headers. Out: admitted or not. Without a token only requests that name a
loopback host are served, so that a foreign page cannot reach us through a DNS name that it points at 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from starlette.datastructures import Headers

COOKIE = "pentimento_session"
SESSION = timedelta(hours=12)
LEAST_TOKEN = 16
"""Characters; a shorter token could be guessed."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class Gatekeeper:
    """Knows the token. Every comparison takes the same time whatever is compared."""

    def __init__(self, token: str | None, now: Callable[[], datetime]) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise ValueError(f"PENTIMENTO_WEB__TOKEN has {len(token)} characters, at least {LEAST_TOKEN} are needed")
        self._token = token
        self._now = now

    @property
    def asks(self) -> bool:
        """Whether a token is asked for at all."""
        return self._token is not None

    def knows(self, token: str) -> bool:
        """Whether this is the token. Where none is set, nothing is."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())

    def session(self) -> str:
        """A cookie's value that is good for `SESSION` from now. It does not contain the token."""
        until = str(int((self._now() + SESSION).timestamp()))
        return f"{until}.{self._signature(until)}"

    def admits(self, headers: Headers, cookies: dict[str, str]) -> bool:
        """Whether the request carries the token, as a bearer or through a session that has not ended."""
        return self._token is None or self.bears(headers) or self._session_holds(cookies.get(COOKIE, ""))

    def bears(self, headers: Headers) -> bool:
        """Whether the request carries the token itself."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.knows(token.strip())

    def trusts_host(self, headers: Headers) -> bool:
        """Whether the host that the request names may be served: any with a token, else a loopback one."""
        return self._token is not None or is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or "")

    def _session_holds(self, value: str) -> bool:
        until, _, signature = value.partition(".")
        genuine = hmac.compare_digest(signature.encode(), self._signature(until).encode())
        return genuine and until.isdigit() and int(until) > self._now().timestamp()

    def _signature(self, until: str) -> str:
        key = (self._token or "").encode()
        return hmac.new(key, f"pentimento session until {until}".encode(), hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own: `localhost`, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(host: str, *, has_token: bool) -> str | None:
    """Why the web process must not listen on `host`, or None."""
    if has_token or is_loopback(host):
        return None
    return f"PENTIMENTO_WEB__HOST is {host!r}: set PENTIMENTO_WEB__TOKEN before listening beyond loopback"


def from_foreign_page(method: str, headers: Headers) -> bool:
    """Whether a browser sends this on behalf of another site. Programs send neither header and are not concerned."""
    if method in SAFE_METHODS:
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return True
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def local_path(target: str) -> str:
    """A path of ours to go to after the login; anything that could lead elsewhere becomes `/`."""
    parts = urlsplit(target)
    harmless = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if harmless and not parts.scheme and not parts.netloc else "/"
