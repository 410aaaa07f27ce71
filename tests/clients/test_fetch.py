"""Fetching URLs, against a real server on loopback that behaves as badly as servers do."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.clients.fetch import LONGEST_WAIT_S, Answer, Fetcher, is_public
from services.core.errors import Rejected, Unavailable

LIMIT = 10_000
PICTURE = b"\xff\xd8\xff" + b"a picture" * 100
HOSTS = ("photos.example", "*.cdn.example")


def plain(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def redirect(to: str, status: str = "302 Found") -> bytes:
    return plain(status, b"", f"Location: {to}")


@dataclass
class Server:
    """Answers by path; remembers what it was asked, as (path, Host header)."""

    port: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        path = lines[0].split(" ")[1]
        host = next(line.split(": ", 1)[1] for line in lines if line.lower().startswith("host:"))
        self.asked.append((path, host))
        try:
            await self._write(path.split("?")[0], reader, writer)
        except ConnectionError:
            self.hung_up.set()
        finally:
            writer.close()

    async def _write(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here = f"http://photos.example:{self.port}"
        answers = {
            "/picture.jpg": plain("200 OK", PICTURE),
            "/empty": plain("200 OK"),
            "/large": plain("200 OK", b"x" * (LIMIT + 1)),
            "/just": plain("200 OK", b"x" * LIMIT),
            "/moved": redirect("/picture.jpg"),
            "/moved-abroad": redirect(f"http://a.cdn.example:{self.port}/picture.jpg", "308 Permanent Redirect"),
            "/to-file": redirect("file:///etc/passwd"),
            "/to-private-name": redirect(f"http://inside.example:{self.port}/picture.jpg"),
            "/to-private-address": redirect("http://169.254.169.254/latest/meta-data"),
            "/to-rebound": redirect(f"http://rebound.cdn.example:{self.port}/picture.jpg"),
            "/loop": redirect(f"{here}/loop"),
            "/hop3": redirect("/hop2"),
            "/hop2": redirect("/hop1"),
            "/hop1": redirect("/picture.jpg"),
            "/hop4": redirect("/hop3"),
            "/nowhere": plain("302 Found"),
            "/not-modified": plain("304 Not Modified"),
            "/bomb": plain("200 OK", b"\x1f\x8b" + b"0" * 50, "Content-Encoding: gzip"),
            "/short": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nnot five hundred",
            "/garbage": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "/busy": plain("503 Service Unavailable", b"", "Retry-After: 7"),
            "/busy-for-long": plain("429 Too Many Requests", b"", "Retry-After: Fri, 31 Dec 2199 23:59:59 GMT"),
        }
        if path.startswith("/status/"):
            writer.write(plain(f"{path.rsplit('/', 1)[1]} Whatever"))
        elif path == "/endless":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                await writer.drain()
        elif path == "/drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            while not reader.at_eof():  # a byte now and then, until the other side hangs up
                writer.write(b"x")
                await writer.drain()
                await asyncio.wait([asyncio.ensure_future(reader.read(1))], timeout=0.02)
            self.hung_up.set()
        elif path == "/silent":
            await reader.read()
            self.hung_up.set()
        else:
            writer.write(answers[path])
        await writer.drain()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


class Names:
    """A resolver: everything is on loopback, but for the names given; counts how often each is asked for."""

    def __init__(self, **others: Sequence[str]) -> None:
        self._others = {name.replace("_", "."): addresses for name, addresses in others.items()}
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._others.get(host, ["127.0.0.1"])


def fetcher(server: Server, **changes: Any) -> Fetcher:
    """One that may reach the test's server and nothing else that is private."""
    arguments: dict[str, Any] = {
        "allowed_hosts": HOSTS,
        "max_bytes": LIMIT,
        "timeout_s": 10.0,
        "allow_http": True,
        "ports": (server.port,),
        "allowed_networks": ("127.0.0.0/8",),
        "resolver": Names(),
    }
    return Fetcher(**{**arguments, **changes})


async def rejection(fetch: Fetcher, url: str) -> Rejected:
    with pytest.raises(Rejected) as caught:
        await fetch.fetch(url)
    await fetch.close()
    return caught.value


# -- what is fetched ----------------------------------------------------------------------------------------------


async def test_a_body_comes_as_it_is_from_an_allowed_host(server: Server) -> None:
    fetch = fetcher(server)
    assert await fetch.fetch(f"http://photos.example:{server.port}/picture.jpg?size=big#top") == PICTURE
    assert server.asked == [("/picture.jpg?size=big", f"photos.example:{server.port}")]
    await fetch.close()


async def test_a_star_allows_every_name_below_it_but_not_the_name_itself(server: Server) -> None:
    fetch = fetcher(server)
    for host in ("a.cdn.example", "b.a.CDN.example", "a.cdn.example."):
        assert await fetch.fetch(f"http://{host}:{server.port}/picture.jpg") == PICTURE
    for host in ("cdn.example", "evilcdn.example", "cdn.example.evil.example"):
        with pytest.raises(Rejected):
            await fetch.fetch(f"http://{host}:{server.port}/picture.jpg")
    await fetch.close()


async def test_redirects_are_followed_up_to_three(server: Server) -> None:
    fetch = fetcher(server)
    for path in ("moved", "moved-abroad", "hop3"):
        assert await fetch.fetch(f"http://photos.example:{server.port}/{path}") == PICTURE
    with pytest.raises(Rejected, match="redirects"):
        await fetch.fetch(f"http://photos.example:{server.port}/hop4")
    with pytest.raises(Rejected, match="redirects"):
        await fetch.fetch(f"http://photos.example:{server.port}/loop")
    await fetch.close()


async def test_an_address_that_refuses_is_passed_over_for_the_next(server: Server) -> None:
    fetch = fetcher(server, resolver=Names(photos_example=["127.0.0.99", "127.0.0.1"]))
    assert await fetch.fetch(f"http://photos.example:{server.port}/picture.jpg") == PICTURE
    await fetch.close()


async def test_an_empty_body_is_left_to_the_guard(server: Server) -> None:
    fetch = fetcher(server)
    assert await fetch.fetch(f"http://photos.example:{server.port}/empty") == b""
    await fetch.close()


# -- what is not allowed ------------------------------------------------------------------------------------------


async def test_an_empty_list_of_hosts_allows_nothing(server: Server) -> None:
    why = await rejection(fetcher(server, allowed_hosts=()), f"http://photos.example:{server.port}/picture.jpg")
    assert why.code == "url_not_allowed"
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "ftp://photos.example:{port}/picture.jpg",
        "file:///etc/passwd",
        "//photos.example:{port}/picture.jpg",
        "photos.example",
        "",
        "http://",
        "http://other.example:{port}/picture.jpg",
        "http://photos.example.other.example:{port}/picture.jpg",
        "http://photos.example/picture.jpg",
        "http://photos.example:22/picture.jpg",
        "http://user:secret@photos.example:{port}/picture.jpg",
        "http://other.example\\@photos.example:{port}/picture.jpg",
        "http://photos.example:{port}\\@other.example/",
        "http://photos.example:{port}/a b",
        "http://photos.example:{port}/\r\nX-Injected: 1",
        "http://photos.example:99999/picture.jpg",
        "http://127.0.0.1:{port}/picture.jpg",
        "http://2130706433:{port}/picture.jpg",
        "http://0x7f.1:{port}/picture.jpg",
        "http://[::1]:{port}/picture.jpg",
        "http://[::ffff:127.0.0.1]:{port}/picture.jpg",
        "http://localhost:{port}/picture.jpg",
    ],
)
async def test_a_url_off_the_lists_is_never_asked_for(server: Server, url: str) -> None:
    names = Names()
    why = await rejection(fetcher(server, resolver=names), url.format(port=server.port))
    assert why.code == "url_not_allowed"
    assert names.asked == []
    assert server.asked == []
    assert "secret" not in str(why)


async def test_only_https_is_fetched_unless_told_otherwise(server: Server) -> None:
    why = await rejection(fetcher(server, allow_http=False), f"http://photos.example:{server.port}/picture.jpg")
    assert why.code == "url_not_allowed"
    assert "https" in str(why)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["172.16.0.1"],
        ["192.168.1.1"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["224.0.0.1"],
        ["240.0.0.1"],
        ["255.255.255.255"],
        ["192.0.2.1"],
        ["::1"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["::ffff:10.0.0.1"],
        ["::127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["2002:7f00:1::"],
        ["2001:0:1:2:3:4:5:6"],
        ["fe80::1"],
        ["fe80::1%eth0"],
        ["fc00::1"],
        ["fec0::1"],
        ["ff02::1"],
        ["2001:db8::1"],
        ["8.8.8.8", "10.0.0.1"],
        ["2606:4700::1111", "::1"],
        ["not an address"],
    ],
)
async def test_a_host_that_leads_inside_is_refused(server: Server, addresses: list[str]) -> None:
    names = Names(photos_example=addresses)
    fetch = fetcher(server, resolver=names, allowed_networks=())
    why = await rejection(fetch, f"http://photos.example:{server.port}/picture.jpg")
    assert why.code == "url_not_allowed"
    assert server.asked == []


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "2a00:1450::1"])
def test_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@pytest.mark.parametrize("path", ["to-file", "to-private-name", "to-private-address"])
async def test_a_redirect_off_the_lists_is_not_followed(server: Server, path: str) -> None:
    fetch = fetcher(server, ports=(server.port, 80))
    why = await rejection(fetch, f"http://photos.example:{server.port}/{path}")
    assert why.code == "url_not_allowed"
    assert [asked for asked, _ in server.asked] == [f"/{path}"]


async def test_a_redirect_to_an_allowed_name_with_a_private_address_is_not_followed(server: Server) -> None:
    fetch = fetcher(server, resolver=Names(rebound_cdn_example=["10.0.0.1"]))
    why = await rejection(fetch, f"http://photos.example:{server.port}/to-rebound")
    assert why.code == "url_not_allowed"


async def test_a_name_is_resolved_once_so_that_it_cannot_change_after_the_check(server: Server) -> None:
    class Rebinding(Names):
        async def __call__(self, host: str, port: int) -> Sequence[str]:
            await super().__call__(host, port)
            return ["127.0.0.1"] if len(self.asked) == 1 else ["10.0.0.1"]

    names = Rebinding()
    fetch = fetcher(server, resolver=names)
    assert await fetch.fetch(f"http://photos.example:{server.port}/picture.jpg") == PICTURE
    assert names.asked == ["photos.example"]
    await fetch.close()


@pytest.mark.parametrize(
    "pattern", ["", "*", "*.", "a.*.example", "https://a.example", "a.example/x", "a b", "*a.example"]
)
def test_a_pattern_that_is_no_host_is_refused_at_the_start(pattern: str) -> None:
    with pytest.raises(ValueError, match="allowed host"):
        Fetcher(allowed_hosts=[pattern], max_bytes=1, timeout_s=1)


# -- limits -------------------------------------------------------------------------------------------------------


async def test_a_body_at_the_limit_passes_and_above_it_does_not(server: Server) -> None:
    fetch = fetcher(server)
    assert len(await fetch.fetch(f"http://photos.example:{server.port}/just")) == LIMIT
    assert (await rejection(fetch, f"http://photos.example:{server.port}/large")).code == "too_large"


async def test_an_endless_body_is_cut_off_at_the_limit(server: Server) -> None:
    why = await rejection(fetcher(server), f"http://photos.example:{server.port}/endless")
    assert why.code == "too_large"
    await asyncio.wait_for(server.hung_up.wait(), 10)


@pytest.mark.parametrize("path", ["drip", "silent"])
async def test_a_server_that_drips_or_stays_silent_costs_the_time_limit_and_no_more(server: Server, path: str) -> None:
    fetch = fetcher(server, timeout_s=0.3)
    with pytest.raises(Unavailable, match="within") as caught:
        await fetch.fetch(f"http://photos.example:{server.port}/{path}")
    assert caught.value.dependency == "url"
    await asyncio.wait_for(server.hung_up.wait(), 10)
    await fetch.close()


async def test_a_compressed_body_is_refused_unread(server: Server) -> None:
    why = await rejection(fetcher(server), f"http://photos.example:{server.port}/bomb")
    assert why.code == "url_failed"
    assert "compressed" in str(why)


# -- what servers answer ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_a_refusal_is_final(server: Server, status: int) -> None:
    why = await rejection(fetcher(server), f"http://photos.example:{server.port}/status/{status}?token=secret")
    assert why.code == "url_failed"
    assert str(status) in str(why)
    assert "secret" not in str(why)


@pytest.mark.parametrize("path", ["nowhere", "not-modified"])
async def test_a_redirect_to_nowhere_is_final(server: Server, path: str) -> None:
    assert (await rejection(fetcher(server), f"http://photos.example:{server.port}/{path}")).code == "url_failed"


@pytest.mark.parametrize("path", ["status/408", "status/429", "status/500", "status/502", "short", "garbage"])
async def test_a_failing_server_is_asked_again_later(server: Server, path: str) -> None:
    fetch = fetcher(server)
    with pytest.raises(Unavailable):
        await fetch.fetch(f"http://photos.example:{server.port}/{path}")
    await fetch.close()


async def test_the_servers_own_wish_when_to_come_back_is_passed_on(server: Server) -> None:
    fetch = fetcher(server)
    with pytest.raises(Unavailable) as caught:
        await fetch.fetch(f"http://photos.example:{server.port}/busy")
    assert caught.value.retry_after_s == 7
    await fetch.close()


async def test_one_request_tells_its_status_and_follows_no_redirect(server: Server) -> None:
    fetch = fetcher(server)
    here = f"http://photos.example:{server.port}"
    assert await fetch.ask(f"{here}/moved") == Answer(f"{here}/moved", 302, location=f"{here}/picture.jpg")
    assert await fetch.ask(f"{here}/picture.jpg") == Answer(f"{here}/picture.jpg", 200, PICTURE)
    assert (await fetch.ask(f"{here}/status/404")).status == 404
    assert [path for path, _ in server.asked] == ["/moved", "/picture.jpg", "/status/404"]
    await fetch.close()


async def test_a_date_to_come_back_at_is_told_as_it_is_and_to_a_stage_within_its_patience(server: Server) -> None:
    fetch = fetcher(server)
    url = f"http://photos.example:{server.port}/busy-for-long"
    assert ((await fetch.ask(url)).retry_after_s or 0) > 1e9
    with pytest.raises(Unavailable) as caught:
        await fetch.fetch(url)
    assert caught.value.retry_after_s == LONGEST_WAIT_S
    await fetch.close()


async def test_nobody_listening_is_asked_again_later(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    fetch = fetcher(server, ports=(port,))
    with pytest.raises(Unavailable):
        await fetch.fetch(f"http://photos.example:{port}/picture.jpg")
    await fetch.close()


@pytest.mark.parametrize(("error", "expected"), [(socket.EAI_NONAME, Rejected), (socket.EAI_AGAIN, Unavailable)])
async def test_a_name_that_does_not_exist_is_final_and_a_name_server_that_is_away_is_not(
    server: Server, error: int, expected: type[Exception]
) -> None:
    async def fail(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(error, "as the resolver says")

    fetch = fetcher(server, resolver=fail)
    with pytest.raises(expected):
        await fetch.fetch(f"http://photos.example:{server.port}/picture.jpg")
    await fetch.close()


# -- TLS ----------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate for a name, with its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{name}.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize(("host", "passes"), [("photos.example", True), ("a.cdn.example", False)])
async def test_tls_checks_the_name_though_the_connection_goes_to_an_address(
    tmp_path: Path, host: str, passes: bool
) -> None:
    pem = certificate(tmp_path, "photos.example")
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(pem)
    server = Server()
    listening = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=served)
    server.port = listening.sockets[0].getsockname()[1]
    fetch = fetcher(server, allow_http=False, tls=ssl.create_default_context(cafile=str(pem)))
    if passes:
        assert await fetch.fetch(f"https://{host}:{server.port}/picture.jpg") == PICTURE
    else:
        with pytest.raises(Rejected, match="certificate"):
            await fetch.fetch(f"https://{host}:{server.port}/picture.jpg")
        with pytest.raises(Rejected, match="certificate"):
            await fetch.post(f"https://{host}:{server.port}/picture.jpg", b"{}", {})
        assert server.asked == []
    await fetch.close()
    listening.close()


# -- posting ------------------------------------------------------------------------------------------------------


async def test_a_post_tells_status_and_waiting_time_and_follows_nothing(server: Server) -> None:
    fetch = fetcher(server)
    here = f"http://photos.example:{server.port}"
    assert await fetch.post(f"{here}/moved", b"{}", {}) == Answer(f"{here}/moved", 302)
    assert await fetch.post(f"{here}/busy", b"{}", {}) == Answer(f"{here}/busy", 503, retry_after_s=7)
    assert (await fetch.post(f"{here}/endless", b"{}", {})).status == 200  # its body is not read
    assert [path for path, _ in server.asked] == ["/moved", "/busy", "/endless"]
    await fetch.close()


@pytest.mark.parametrize(
    "url", ["http://inside.example:{port}/", "http://169.254.169.254:{port}/", "file:///etc/passwd"]
)
async def test_a_post_goes_nowhere_that_a_picture_is_not_fetched_from(server: Server, url: str) -> None:
    names = Names(**{"inside_example": ["10.0.0.7"], "169_254_169_254": ["169.254.169.254"]})
    fetch = fetcher(server, allowed_hosts=("*.example", "169.254.169.254"), resolver=names)
    with pytest.raises(Rejected) as caught:
        await fetch.post(url.format(port=server.port), b"{}", {})
    assert caught.value.code == "url_not_allowed"
    assert server.asked == []
    await fetch.close()
