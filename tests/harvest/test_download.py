"""Downloads over real HTTP, from a web on loopback that behaves as badly as the real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

import pytest

from services.clients.fetch import Fetcher
from tests.harvest.web import HUGE, Web, served
from trainer.harvest.download import Delivery, Downloader, Refusal, agent
from trainer.harvest.lanes import Pace

BRISK = Pace(delay_s=0.0, backoff_s=0.01, attempts=3)
HOSTS = ("a.example", "b.example", "*.cdn.example")


@pytest.fixture
def site() -> Iterator[Web]:
    with served(Web(pictures={"/1.jpg": b"one", "/2.jpg": b"two", "/private/3.jpg": b"three"})) as site:
        yield site


async def resolve(host: str, port: int) -> Sequence[str]:
    return ["10.0.0.1"] if host == "inside.cdn.example" else ["127.0.0.1"]


async def fetched(site: Web, *urls: str, pace: Pace = BRISK, **changes: Any) -> dict[str, Delivery | Refusal]:
    arguments: dict[str, Any] = {
        "allowed_hosts": HOSTS,
        "max_bytes": HUGE,
        "timeout_s": 20.0,
        "allow_http": True,
        "ports": (site.port,),
        "allowed_networks": ("127.0.0.0/8",),
        "resolver": resolve,
    }
    fetcher = Fetcher(**{**arguments, **changes})
    fetcher.user_agent = agent("me@example.org", "1.0")
    found: dict[str, Delivery | Refusal] = {}
    await Downloader(fetcher, pace).fetch_all(urls, found.__setitem__)
    await fetcher.close()
    return found


def state(outcome: Delivery | Refusal) -> str:
    return outcome.state if isinstance(outcome, Refusal) else "fetched"


async def test_each_picture_is_asked_for_once_by_somebody_with_a_name_and_an_address(site: Web) -> None:
    one, two = site.url("/1.jpg", "a.example"), site.url("/2.jpg", "b.example")
    found = await fetched(site, one, two, one)
    assert found == {one: Delivery(one, b"one"), two: Delivery(two, b"two")}
    assert site.counts() == {"/1.jpg": 1, "/2.jpg": 1, "/robots.txt": 2}
    assert site.agents == {"pentimento-harvest/1.0 (+me@example.org)"}


async def test_a_host_is_asked_within_its_pace_and_its_own_wish(site: Web) -> None:
    site.robots["a.example"] = "User-agent: *\nCrawl-delay: 0.2"
    urls = [site.url(f"/{number}", "a.example") for number in range(4)]
    began = monotonic()
    await fetched(site, *urls, pace=Pace(delay_s=0.0, at_once=2))
    assert monotonic() - began >= 3 * 0.2


async def test_a_host_that_asks_for_more_patience_than_there_is_is_left_for_another_run(site: Web) -> None:
    site.robots["a.example"] = "User-agent: *\nCrawl-delay: 999999"
    urls = [site.url(path, "a.example") for path in ("/1.jpg", "/2.jpg")]
    assert {state(outcome) for outcome in (await fetched(site, *urls)).values()} == {"postponed"}
    assert site.counts() == {"/robots.txt": 1}


async def test_no_more_requests_than_allowed_go_to_one_host_at_once(site: Web) -> None:
    urls = [site.url(f"/after-a-while/{number}", "a.example") for number in range(6)]
    await fetched(site, *urls, pace=Pace(delay_s=0.0, at_once=3))
    assert site.at_once <= 3


@pytest.mark.parametrize(
    ("robots", "path", "expected"),
    [
        ("User-agent: *\nDisallow: /private", "/private/3.jpg", "robots"),
        ("User-agent: *\nDisallow: /private", "/1.jpg", "fetched"),
        ("User-agent: pentimento\nDisallow: /", "/1.jpg", "robots"),
        (404, "/1.jpg", "fetched"),
        (403, "/1.jpg", "fetched"),
        (500, "/1.jpg", "postponed"),
        (429, "/1.jpg", "postponed"),
    ],
)
async def test_robots_txt_decides_and_one_that_cannot_be_read_forbids(
    site: Web, robots: str | int, path: str, expected: str
) -> None:
    site.robots["a.example"] = robots
    url = site.url(path, "a.example")
    found = await fetched(site, url)
    assert state(found[url]) == expected
    assert site.counts()[path] == (expected == "fetched")


async def test_a_redirect_obeys_the_rules_of_the_host_that_it_leads_to(site: Web) -> None:
    site.robots["b.example"] = "User-agent: *\nDisallow: /private"
    good, bad, off, inside, loop = (
        site.url(path, "a.example")
        for path in (
            "/to/b.example/1.jpg", "/to/b.example/private/3.jpg", "/to/c.example/1.jpg", "/to/inside.cdn.example/1.jpg",
            "/to/a.example/" + "to/a.example/" * 6 + "1.jpg",
        )
    )  # fmt: skip
    found = await fetched(site, good, bad, off, inside, loop)
    assert found[good] == Delivery(site.url("/1.jpg", "b.example"), b"one")
    assert [state(found[url]) for url in (bad, off, inside, loop)] == ["robots", "not_allowed", "not_allowed", "failed"]
    assert site.counts()["/private/3.jpg"] == 0
    assert {host for host, _, _ in site.asked} == {"a.example", "b.example"}


async def test_what_is_not_allowed_is_never_asked_for(site: Web) -> None:
    urls = [
        site.url("/1.jpg", "c.example"), "http://a.example:1/1.jpg", f"ftp://a.example:{site.port}/1.jpg",
        f"http://me:secret@a.example:{site.port}/1.jpg", "http://[::1/1.jpg", "http:///1.jpg", "https://",
    ]  # fmt: skip
    found = await fetched(site, *urls)
    assert {state(outcome) for outcome in found.values()} == {"not_allowed"}
    assert len(found) == len(urls)
    assert site.asked == []


async def test_a_busy_host_is_left_alone_for_as_long_as_it_says(site: Web) -> None:
    site.pictures["/busy-once"] = b"at last"
    busy, other = site.url("/busy-once", "a.example"), site.url("/1.jpg", "a.example")
    found = await fetched(site, busy, other, pace=Pace(delay_s=0.0, backoff_s=0.01, at_once=1))
    assert state(found[busy]) == state(found[other]) == "fetched"
    first, second = site.times("/busy-once")
    assert second - first >= 1.0
    assert site.times("/1.jpg")[0] >= second


async def test_a_host_that_wants_to_be_left_alone_for_a_day_is_not_asked_again(site: Web) -> None:
    urls = [site.url(f"/closed/{number}", "a.example") for number in range(5)]
    elsewhere = site.url("/1.jpg", "b.example")
    found = await fetched(site, *urls, elsewhere, pace=Pace(delay_s=0.0, at_once=1))
    assert [state(found[url]) for url in urls] == ["postponed"] * 5
    assert state(found[elsewhere]) == "fetched"
    assert sum(site.counts()[f"/closed/{number}"] for number in range(5)) == 1


async def test_a_failing_host_is_tried_again_and_then_left_for_another_run(site: Web) -> None:
    urls = [site.url("/error", "a.example"), *(site.url(f"/error?{number}", "a.example") for number in range(6))]
    found = await fetched(site, *urls, pace=Pace(delay_s=0.0, backoff_s=0.01, attempts=2, at_once=1))
    assert {state(outcome) for outcome in found.values()} == {"postponed"}
    assert site.counts()["/error"] == 3 * 2  # three pictures, each twice


async def test_what_is_gone_too_large_or_too_slow_is_told_apart(site: Web) -> None:
    gone, huge, slow = (site.url(path, "a.example") for path in ("/gone.jpg", "/huge", "/slow"))
    found = await fetched(site, gone, huge, slow, timeout_s=1.0, pace=Pace(delay_s=0.0, backoff_s=0.01, attempts=1))
    assert [state(found[url]) for url in (gone, huge, slow)] == ["failed", "failed", "postponed"]
    assert site.counts()["/gone.jpg"] == 1


async def test_a_host_that_nobody_answers_for_costs_no_more_than_a_few_attempts(site: Web) -> None:
    async def nobody(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.99"] if host == "b.example" else ["127.0.0.1"]

    away = [site.url(f"/{number}.jpg", "b.example") for number in range(50)]
    here = site.url("/1.jpg", "a.example")
    found = await fetched(site, *away, here, resolver=nobody)
    assert {state(found[url]) for url in away} == {"postponed"}
    assert state(found[here]) == "fetched"
