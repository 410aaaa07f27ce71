"""Who makes a request: a program with a token, a person with a session, or whoever reaches the open loopback address.

In: a request's head. Out: the person, or None. A token that is none of ours is never overlooked: whoever sends one
wants to be known by it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from services.clients.database import Database
from services.clients.sessions import Begun, Method, Session, Sessions
from services.clients.tokens import Tokens
from services.core.access import HOLDER, LOCAL, Person
from services.web.auth import COOKIE, WebToken, host_of, is_loopback
from services.web.csrf import token_for
from services.web.current import Came
from services.web.parts import SignInOptions


class Gatekeeper:
    """Knows the tokens and the sessions. Raises ValueError for a web token that is too short."""

    def __init__(
        self, database: Database, token: str | None, options: SignInOptions, now: Callable[[], datetime]
    ) -> None:
        self.token = WebToken(token)
        self.sessions = Sessions(database, options.idle)
        self._tokens = Tokens(database)
        self._options = options
        self._now = now

    @property
    def is_open(self) -> bool:
        """Whether loopback needs no sign-in at all."""
        return self._options.open_on_loopback and not self.token.is_set and self._options.provider is None

    def trusts_host(self, headers: Headers) -> bool:
        """Whether the host that the request names may be served: any with a web token, else loopback and our own."""
        public = urlsplit(self._options.public_url or "").hostname
        host = host_of(headers)
        return self.token.is_set or is_loopback(host) or (public is not None and host == public)

    async def bearer(self, token: str) -> Person | None:
        """Who bears this token."""
        return HOLDER if self.token.knows(token) else await self._tokens.bearer(token, self._now())

    async def visitor(self, request: Request) -> Came | None:
        """Who comes without a bearer token: by their cookie, else by the open loopback address."""
        cookie = request.cookies.get(COOKIE)
        session = None if not cookie else await self.sessions.get(cookie, self._now())
        person = None if session is None else self._person_of(session)
        if cookie and session is not None and person is not None:
            return Came(person, session, token_for(cookie))
        near = request.client is not None and is_loopback(request.client.host)
        return Came(LOCAL) if self.is_open and near else None

    async def begin(self, request: Request, subject: str, method: Method) -> str:
        """A new session for somebody who has just proved who they are: the cookie's value."""
        now = self._now()
        begun = Begun(
            subject=subject,
            method=method,
            agent=request.headers.get("user-agent", ""),
            now=now,
            expires_at=now + self._options.lasts,
            token_mark=self.token.mark if method == "token" else None,
        )
        return await self.sessions.begin(begun)

    def is_secure(self, request: Request) -> bool:
        """Whether browsers reach us by https, so that a cookie may be kept from everything else."""
        return request.url.scheme == "https" or (self._options.public_url or "").startswith("https://")

    def _person_of(self, session: Session) -> Person | None:
        if session.method == "token":
            return HOLDER if self.token.is_set and session.token_mark == self.token.mark else None
        return None if session.account is None else session.account.person
