"""Fetches an image from a URL that somebody sent us, without becoming their way into our network.

In: a URL; a webhook's comes with what to post there. Out: the body's bytes; `Rejected` where the URL is not allowed or
will not answer any better; `Unavailable` where another try may help. Guards, in this order, for the URL and again for
each redirect:

* scheme, port and host must be on our lists; an empty list of hosts allows nothing; no user names, no odd characters;
* the host is resolved once, every address must be a public one, and the connection goes to exactly that address
  (TLS still checks the name), so that a name server cannot change its mind between check and use;
* redirects, bytes and the time for everything together are limited; compressed bodies are refused.

Neither proxies from the environment nor cookies are used, and no connection is used twice.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from services.core.errors import Rejected, Unavailable

MAX_REDIRECTS = 3
MAX_ADDRESSES = 3  # of one host, tried in the resolver's order
FETCHES_AT_ONCE = 16
USER_AGENT = "pentimento"
LONGEST_WAIT_S = 60.0  # that a stage is told to wait, whatever a server wishes

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to its addresses. Raises socket.gaierror."""

_IPV6_UNICAST = IPv6Network("2000::/3")
_TRANSITION = (IPv6Network("2002::/16"), IPv6Network("2001::/32"))  # 6to4 and Teredo wrap any IPv4 address
_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_TRY_AGAIN = frozenset({408, 425, 429})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"Accept": "image/*, */*;q=0.1", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request was answered. `body` is empty unless the status is 2xx; `location` is the absolute URL that a
    redirect leads to, not checked yet; `retry_after_s` is in how many seconds the server wants to be asked again."""

    url: str
    status: int
    body: bytes = b""
    location: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """What goes to the target."""

    method: str
    headers: Mapping[str, str]
    body: bytes | None = None


_GET = _Request("GET", _HEADERS)


async def resolve(host: str, port: int) -> Sequence[str]:
    """The system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Fetcher:
    """Fetches bodies of at most `max_bytes` within `timeout_s` seconds, redirects included."""

    def __init__(
        self,
        *,
        allowed_hosts: Iterable[str],
        max_bytes: int,
        timeout_s: float,
        allow_http: bool = False,
        ports: Iterable[int] = (443,),
        allowed_networks: Iterable[str] = (),
        resolver: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`allowed_hosts` are names such as `images.example.com`, or `*.example.com` for every name below it.
        `allowed_networks` are private networks that may be reached all the same, e.g. `10.20.0.0/16`.
        Raises ValueError for a host pattern or network that is none.
        """
        self._hosts = frozenset(_host_pattern(host) for host in allowed_hosts)
        self._networks = tuple(ip_network(network) for network in allowed_networks)
        self._schemes = ("http", "https") if allow_http else ("https",)
        self._ports = frozenset(ports)
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._transport = httpx.AsyncHTTPTransport(
            verify=tls or httpx.create_ssl_context(trust_env=False),
            trust_env=False,
            limits=httpx.Limits(max_connections=FETCHES_AT_ONCE, max_keepalive_connections=0),
        )
        self.setting = "intake.allowed_hosts"
        """Where its hosts come from, for messages."""
        self.user_agent = USER_AGENT
        """What it calls itself; who fetches for a purpose of their own may set a name with a contact."""

    async def fetch(self, url: str) -> bytes:
        """The body behind a URL.

        Raises Rejected (url_not_allowed, url_failed, too_large) or Unavailable("url").
        """
        async with self._in_time(url):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await self._asked(url)
                if answer.location is None:
                    _check_status(answer)
                    return answer.body
                url = answer.location
        raise Rejected("url_failed", f"{shown(url)}: more than {MAX_REDIRECTS} redirects")

    async def ask(self, url: str) -> Answer:
        """The answer to one request, whatever its status; a redirect is told and not followed. For callers who have a
        rule of their own for each host.

        Raises Rejected (url_not_allowed, url_failed, too_large) or Unavailable("url").
        """
        async with self._in_time(url):
            return await self._asked(url)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """The answer to a POST, whatever its status; a redirect is told and not followed, and no body is read.

        Raises Rejected (url_not_allowed, url_failed) or Unavailable("url").
        """
        async with self._in_time(url):
            target = self._checked(url)
            request = _Request("POST", headers, body)
            async with self._answer(target, await self._addresses(target), request) as response:
                wait = _seconds(response.headers.get("Retry-After", ""))
                return Answer(url, response.status_code, retry_after_s=wait)

    def check(self, url: str) -> None:
        """Raises Rejected where scheme, host or port is not allowed, or it is no URL. Nothing is sent or resolved."""
        self._checked(url)

    async def close(self) -> None:
        """Closes the connections. The fetcher cannot be used afterwards."""
        await self._transport.aclose()

    @asynccontextmanager
    async def _in_time(self, url: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise Unavailable("url", f"{shown(url)} did not deliver within {self._timeout_s:g} s") from error

    async def _asked(self, url: str) -> Answer:
        """Asks for the URL, which is checked before anything is sent."""
        target = self._checked(url)
        addresses = await self._addresses(target)
        async with self._answer(target, addresses) as response:
            status = response.status_code
            if status in _REDIRECTS:
                return Answer(url, status, location=_joined(target, response.headers.get("Location", "")))
            body = await self._body(response, target) if 200 <= status < 300 else b""
            return Answer(url, status, body, retry_after_s=_seconds(response.headers.get("Retry-After", "")))

    def _checked(self, url: str) -> httpx.URL:
        """The parsed URL, if we may ask for it. The same parsed value is what gets used: no second parser disagrees."""
        if not url.isprintable() or any(odd in url for odd in "\\ "):
            raise Rejected("url_not_allowed", f"{shown(url)!r} has characters that no URL has")
        try:
            target = httpx.URL(url).copy_with(fragment=None)
            host = _host(target)
        except (httpx.InvalidURL, ValueError) as error:
            raise Rejected("url_not_allowed", f"{shown(url)!r} is no URL: {error}") from error
        if target.scheme not in self._schemes:
            raise Rejected("url_not_allowed", f"{shown(url)}: the scheme must be {' or '.join(self._schemes)}")
        if target.userinfo:
            raise Rejected("url_not_allowed", f"{shown(url)}: a URL with a user name is not fetched")
        if _port(target) not in self._ports:
            raise Rejected("url_not_allowed", f"{shown(url)}: port {_port(target)} is not allowed")
        below = (f"*.{host.split('.', cut)[-1]}" for cut in range(1, host.count(".") + 1))
        if self._hosts.isdisjoint((host, *below)):
            raise Rejected("url_not_allowed", f"{shown(url)}: its host is not allowed (`{self.setting}`)")
        return target

    async def _addresses(self, target: httpx.URL) -> Sequence[str]:
        """The host's addresses, all of them public: one private address among public ones is no accident."""
        host = _host(target)
        try:
            found = await self._resolver(host, _port(target))
        except socket.gaierror as error:
            if error.errno == socket.EAI_NONAME:
                raise Rejected("url_failed", f"there is no host {host!r}") from error
            raise Unavailable("url", f"the host {host!r} cannot be resolved now: {error.strerror}") from error
        if not found:
            raise Rejected("url_failed", f"the host {host!r} has no address")
        for address in found:
            if not self._may_connect(address):
                raise Rejected("url_not_allowed", f"{host!r} leads to {address}, which is no public address")
        return found[:MAX_ADDRESSES]

    def _may_connect(self, address: str) -> bool:
        try:
            parsed = _unwrapped(address)
        except ValueError:
            return False
        return is_public(parsed) or any(parsed in network for network in self._networks)

    @asynccontextmanager
    async def _answer(
        self, target: httpx.URL, addresses: Sequence[str], asked: _Request = _GET
    ) -> AsyncIterator[httpx.Response]:
        """The response's head, from the first address that takes a connection. Transport errors in our words."""
        try:
            response = await self._first_answer(target, addresses, asked)
            try:
                yield response
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            if _certificate_is_wrong(error):
                raise Rejected("url_failed", f"{shown(str(target))}: the certificate is not valid: {error}") from error
            raise Unavailable("url", f"{shown(str(target))}: {type(error).__name__}: {error}"[:300]) from error

    async def _first_answer(self, target: httpx.URL, addresses: Sequence[str], asked: _Request) -> httpx.Response:
        for address in addresses[:-1]:
            try:
                return await self._transport.handle_async_request(self._request(target, address, asked))
            except httpx.ConnectError as error:
                if _certificate_is_wrong(error):
                    raise
        return await self._transport.handle_async_request(self._request(target, addresses[-1], asked))

    def _request(self, target: httpx.URL, address: str, asked: _Request) -> httpx.Request:
        """Goes to the address, asks for the name: in the Host header, and in TLS, which checks it."""
        return httpx.Request(
            asked.method,
            target.copy_with(host=address),
            headers={**asked.headers, "User-Agent": self.user_agent, "Host": target.netloc.decode("ascii")},
            content=asked.body,
            extensions={
                "sni_hostname": _host(target),
                "timeout": dict.fromkeys(("connect", "read", "write", "pool"), self._timeout_s),
            },
        )

    async def _body(self, response: httpx.Response, target: httpx.URL) -> bytes:
        """The body, as long as it stays below the limit."""
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Rejected("url_failed", f"{shown(str(target))}: the body is compressed though we asked for it plain")
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise Rejected("too_large", f"{shown(str(target))}: {announced} bytes, the limit is {self._max_bytes}")
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._max_bytes:
                raise Rejected("too_large", f"{shown(str(target))}: more than the limit of {self._max_bytes} bytes")
        return bytes(body)


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is one host on the open internet: not private, shared, loopback, link-local, multicast,
    reserved or unspecified, and no IPv6 address that stands for some IPv4 address.
    """
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    if isinstance(address, IPv4Address):
        return True
    return address in _IPV6_UNICAST and not any(address in network for network in _TRANSITION)


def _unwrapped(address: str) -> IPv4Address | IPv6Address:
    """The address itself where it is an IPv4 address written as IPv6. Raises ValueError."""
    parsed = ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed


def _host_pattern(host: str) -> str:
    lowered = host.lower().rstrip(".")
    if not _HOST.fullmatch(lowered):
        raise ValueError(f"an allowed host is a name, or *. and a name, not {host!r}")
    return lowered


def _host(target: httpx.URL) -> str:
    """The host in lower-case ASCII, without a final dot."""
    return target.raw_host.decode("ascii").lower().rstrip(".")


def _port(target: httpx.URL) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


def _joined(target: httpx.URL, location: str) -> str:
    if not location:
        raise Rejected("url_failed", f"{shown(str(target))}: a redirect that says not where to")
    try:
        return str(target.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Rejected("url_failed", f"{shown(str(target))}: redirects to what is no URL") from error


def _check_status(answer: Answer) -> None:
    if 200 <= answer.status < 300:
        return
    said = f"{shown(answer.url)} answered {answer.status}"
    if may_recover(answer.status):
        wait = answer.retry_after_s
        raise Unavailable("url", said, retry_after_s=None if wait is None else min(wait, LONGEST_WAIT_S))
    raise Rejected("url_failed", said)


def may_recover(status: int) -> bool:
    """Whether another try may be answered better."""
    return status in _TRY_AGAIN or status >= 500


def _seconds(retry_after: str) -> float | None:
    """The header's seconds or date (RFC 9110, 10.2.3) as seconds from now; None where it is neither."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # no date, or one without a zone
        return None


def _certificate_is_wrong(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def shown(url: str) -> str:
    """The URL for messages: without query, where signatures and tokens stand, and without user name."""
    plain = url.split("?", 1)[0].split("#", 1)[0]
    scheme, found, rest = plain.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{found}{authority.rpartition('@')[2]}{slash}{path}"[:300]
