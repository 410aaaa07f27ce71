"""Sign-in at a certified OpenID provider: there, through its pages, and back; and every way back that is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from services.clients.accounts import People
from services.clients.database import Database
from services.clients.objects import Objects
from services.clients.oidc import Provider, ProviderOptions, SignInFailed, is_private
from services.clients.signins import Flow
from services.core.access import ClaimRules, Role
from services.core.errors import Broken, Unavailable
from services.local.ports import free_port
from services.telemetry import Telemetry
from services.web.parts import SignInOptions
from tests.access.conftest import OPTIONS, PAGE, House, house_with
from tests.access.oidc_provider import running_provider, why_absent
from tests.web.conftest import calling

OURS = "http://127.0.0.1"
CLIENT, SECRET = "pentimento", "a-secret-of-the-test"
CALLBACK = f"{OURS}/login/oidc/callback"
RULES = ClaimRules("groups", {"trust": Role.MODERATOR, "admins": Role.ADMIN}, {"trust": ("acme",), "admins": ("*",)})


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    if (why := why_absent()) is not None:
        pytest.skip(why)
    with running_provider(free_port(), CLIENT, SECRET, CALLBACK) as address:
        yield address


def options(issuer: str, **changes: object) -> ProviderOptions:
    known = ProviderOptions(issuer, CLIENT, SECRET, CALLBACK, ("openid", "profile", "email"), "groups")
    return replace(known, **changes)  # type: ignore[arg-type]


@pytest.fixture
def house(issuer: str, access_database: Database, access_telemetry: Telemetry, objects: Objects) -> House:
    """With a provider and without a token."""
    sign_in = SignInOptions(public_url=OURS, provider=Provider(options(issuer)), provider_name="Acme", claims=RULES)
    return house_with(
        replace(OPTIONS, token=None, sign_in=replace(sign_in, attempts=3)), access_database, access_telemetry, objects
    )


@dataclass
class Browser:
    """Cookies of ours and of the provider's, and redirects followed by hand between the two."""

    ours: httpx.AsyncClient
    theirs: httpx.AsyncClient

    async def leave(self, target: str = "/") -> str:
        """Off to the provider: its address with everything that we say."""
        away = await self.ours.get("/login/oidc", params={"next": target})
        assert away.status_code == 303
        return str(away.headers["location"])

    async def sign_in(self, address: str, name: str) -> str:
        """Through the provider's pages; where it sends the browser back to."""
        answer = await self.theirs.get(address)
        while True:
            if answer.is_redirect:
                address = urljoin(str(answer.url), answer.headers["location"])
                if address.startswith(CALLBACK):
                    return address
                answer = await self.theirs.get(address)
                continue
            found = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            assert found is not None, answer.text
            prompt = "login" if 'name="login"' in answer.text else "consent"
            data = {"prompt": prompt, "login": name, "password": "any"}
            answer = await self.theirs.post(urljoin(str(answer.url), found.group(1)), data=data)

    async def back(self, address: str) -> httpx.Response:
        return await self.ours.get(address, headers=PAGE)


@asynccontextmanager
async def browsing(house: House) -> AsyncIterator[Browser]:
    async with calling(house.app) as ours, httpx.AsyncClient() as theirs:
        yield Browser(ours, theirs)


async def test_somebody_signs_in_and_is_who_the_provider_says(house: House, issuer: str) -> None:
    async with browsing(house) as browser:
        first = await browser.ours.get("/login", params={"next": "/account"})
        assert "Sign in with Acme" in first.text
        away = await browser.leave("/account")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(away).query).items()}
        assert asked["code_challenge_method"] == "S256"
        assert len(asked["code_challenge"]) == 43
        assert len(asked["state"]) >= 43
        assert len(asked["nonce"]) >= 43
        assert SECRET not in away
        done = await browser.back(await browser.sign_in(away, "ada"))
        assert done.status_code == 200
        assert 'content="0;url=/account"' in done.text
        cookies = [value.lower() for value in done.headers.get_list("set-cookie")]
        assert any("pentimento_session=" in cookie and "samesite=strict" in cookie for cookie in cookies)
        known = (await browser.ours.get("/api/v1/account")).json()
    assert (known["name"], known["role"], known["tenants"]) == ("Ada Lovelace", "moderator", ["acme"])
    assert known["subject"] == f"{issuer.removeprefix('http://')}/ada"
    assert known["sessions"][0]["method"] == "oidc"
    assert (await house.logged(subject=known["subject"]))[0].action == "signed_in"


async def test_whoever_has_no_role_is_told_so_and_not_let_in(house: House) -> None:
    async with browsing(house) as browser:
        refused = await browser.back(await browser.sign_in(await browser.leave(), "eve"))
        assert refused.status_code == 403
        assert "nothing in the claim “groups” gives a role here" in refused.text
        assert "<script>alert" not in refused.text
        assert not any("pentimento_session=" in value for value in refused.headers.get_list("set-cookie"))
        assert (await browser.ours.get("/api/v1/account")).status_code == 401
    assert (await house.logged(action="sign_in_refused"))[0].details["why"] == "no role"


async def test_a_disabled_account_stays_out_and_stays_disabled(house: House, issuer: str) -> None:
    people, subject = People(house.parts.database), f"{issuer.removeprefix('http://')}/max"
    async with browsing(house) as browser:
        assert (await browser.back(await browser.sign_in(await browser.leave(), "max"))).status_code == 200
        account = await people.get(subject)
        assert account is not None
        assert (account.role, account.tenants) == (Role.ADMIN, None)
        await people.change(replace(account, disabled=True))
        assert (await browser.ours.get("/api/v1/account")).status_code == 401
        refused = await browser.back(await browser.sign_in(await browser.leave(), "max"))
        assert refused.status_code == 403
        assert "disabled" in refused.text
    account = await people.get(subject)
    assert account is not None
    assert account.disabled


async def test_the_way_back_belongs_to_the_browser_that_left_and_is_used_once(house: House) -> None:
    async with browsing(house) as browser, browsing(house) as victim:
        back = await browser.sign_in(await browser.leave(), "ada")
        assert (await victim.back(back)).status_code == 401  # led there by whoever wants them in another's account
        assert (await browser.back(back)).status_code == 200
        assert (await browser.back(back)).status_code == 401


@pytest.mark.parametrize(
    ("name", "value"), [("state", "x"), ("state", ""), ("code", "x"), ("iss", "http://127.0.0.1:1"), ("iss", "")]
)
async def test_a_way_back_that_was_changed_is_refused(house: House, name: str, value: str) -> None:
    async with browsing(house) as browser:
        back = await browser.sign_in(await browser.leave(), "ada")
        query = {key: values[0] for key, values in parse_qs(urlsplit(back).query).items()} | {name: value}
        answer = await browser.ours.get("/login/oidc/callback", params={k: v for k, v in query.items() if v})
        assert answer.status_code == 401
        assert answer.json()["type"] == "urn:pentimento:problem:sign_in_failed"
        assert "set-cookie" not in answer.headers


async def test_a_sign_in_that_takes_too_long_is_refused(house: House) -> None:
    async with browsing(house) as browser:
        back = await browser.sign_in(await browser.leave(), "ada")
        house.clock.later(minutes=11)
        assert (await browser.back(back)).status_code == 401


async def test_failed_ways_back_make_an_address_wait(house: House) -> None:
    async with browsing(house) as browser:
        for _ in range(3):
            assert (await browser.back(f"{CALLBACK}?code=x&state=x")).status_code == 401
        assert (await browser.back(f"{CALLBACK}?code=x&state=x")).status_code == 429
        assert (await browser.ours.get("/login/oidc")).status_code == 429


async def test_with_a_provider_the_loopback_address_is_not_open(house: House) -> None:
    async with calling(house.app) as anybody:
        assert (await anybody.get("/api/v1/account")).status_code == 401
    async with calling(house.app, "rebound.evil.example") as foreign:
        assert (await foreign.get("/login")).status_code == 421


# -- the client by itself -------------------------------------------------------------------------------------------


async def test_a_token_for_another_nonce_or_client_is_refused(issuer: str) -> None:
    async with httpx.AsyncClient() as theirs:
        for changed in ({"nonce": "another"}, {"verifier": "x" * 64}):
            provider, flow = Provider(options(issuer)), Flow.new("/")
            browser = Browser(theirs, theirs)
            query = parse_qs(urlsplit(await browser.sign_in(await provider.address(flow), "ada")).query)
            outcome = await provider.claims(query["code"][0], replace(flow, **changed), issuer=issuer)
            assert isinstance(outcome, SignInFailed)
        wrong = await Provider(options(issuer, client_secret="wrong")).claims("x", Flow.new("/"), issuer=issuer)
        assert isinstance(wrong, SignInFailed)


async def test_a_provider_that_calls_itself_otherwise_is_not_trusted(issuer: str) -> None:
    with pytest.raises(Broken, match="calls itself"):
        await Provider(options(issuer.replace("127.0.0.1", "localhost"))).address(Flow.new("/"))


async def test_a_provider_that_is_away_is_said(access_database: Database) -> None:
    with pytest.raises(Unavailable, match="OpenID provider does not answer"):
        await Provider(options("http://127.0.0.1:1")).address(Flow.new("/"))


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("https://id.example.com", True), ("http://127.0.0.1:9", True), ("http://localhost", True),
        ("http://id.example.com", False), ("ftp://id.example.com", False), ("", False), (None, False),
    ],
)  # fmt: skip
def test_nothing_is_sent_where_others_can_read_it(address: object, private: bool) -> None:
    assert is_private(address) is private
