"""What a request's head says about where it comes from: host, origin, bearer, and where a login may lead.

In: headers, a host, a path. Out: yes or no, or the safe part. Nothing here knows accounts or sessions: see
`identity.py`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers

COOKIE = "pentimento_session"
LEAST_TOKEN = 16
"""Characters; a shorter token could be guessed."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


class WebToken:
    """The token of the settings, or none. Every comparison takes the same time whatever is compared."""

    def __init__(self, token: str | None) -> None:
        if token is not None and len(token) < LEAST_TOKEN:
            raise ValueError(f"PENTIMENTO_WEB__TOKEN has {len(token)} characters, at least {LEAST_TOKEN} are needed")
        self._token = token

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return self._token is not None

    @property
    def mark(self) -> str:
        """By which a session is known that was begun with this token, and no other."""
        return hashlib.sha256(f"pentimento web token {self._token}".encode()).hexdigest()

    def knows(self, token: str) -> bool:
        """Whether this is the token. Where none is set, nothing is."""
        return self._token is not None and hmac.compare_digest(token.encode(), self._token.encode())


def bearer_of(headers: Headers) -> str | None:
    """The bearer token that a request carries."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def host_of(headers: Headers) -> str:
    """The host that a request names, without its port."""
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own: `localhost`, 127.0.0.0/8 or ::1."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refusal(host: str, *, has_token: bool) -> str | None:
    """Why the web process must not listen on `host`, or None. `has_token`: or a login."""
    if has_token or is_loopback(host):
        return None
    return (
        f"PENTIMENTO_WEB__HOST is {host!r}: set PENTIMENTO_WEB__TOKEN or an OpenID provider (PENTIMENTO_LOGIN__ISSUER) "
        "before listening beyond loopback"
    )


def from_foreign_page(method: str, headers: Headers) -> bool:
    """Whether a browser sends this on behalf of another site. Programs send neither header and are not concerned."""
    if method in SAFE_METHODS:
        return False
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return True
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def follows_foreign_link(method: str, headers: Headers) -> bool:
    """Whether a browser opens a page because another site's page led there: then it keeps our strict cookie back."""
    opens = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return method == "GET" and opens and headers.get("sec-fetch-site") in ("cross-site", "same-site")


def local_path(target: str) -> str:
    """A path of ours to go to after the login; anything that could lead elsewhere becomes `/`."""
    parts = urlsplit(target)
    harmless = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return target if harmless and not parts.scheme and not parts.netloc else "/"
