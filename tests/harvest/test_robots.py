"""What a host asks programs to leave alone is left alone, as RFC 9309 reads it."""

from __future__ import annotations

import pytest

from trainer.harvest.robots import EVERYTHING, rules

HOST = "https://images.example"


def allowed(text: str, path: str) -> bool:
    return rules(text.encode(), "pentimento").allow(HOST + path)


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("User-agent: *\nDisallow: /", "/a.jpg", False),
        ("User-agent: *\nDisallow:", "/a.jpg", True),
        ("", "/a.jpg", True),
        ("User-agent: *\nDisallow: /private", "/private/a.jpg", False),
        ("User-agent: *\nDisallow: /private", "/public/a.jpg", True),
        ("User-agent: *\nDisallow: /*.jpg$", "/deep/a.jpg", False),
        ("User-agent: *\nDisallow: /*.jpg$", "/deep/a.jpg?size=2", True),
        ("User-agent: *\nDisallow: /a*b*c$", "/a-bb-c", False),
        ("User-agent: *\nDisallow: /a*bc$", "/abc-abc", False),
        ("User-agent: *\nDisallow: /a*aa$", "/aa", True),
        ("User-agent: *\nDisallow: /*?", "/a.jpg?x", False),
        ("User-agent: *\nDisallow: /\nAllow: /public", "/public/a.jpg", True),
        ("User-agent: *\nAllow: /public\nDisallow: /public/no", "/public/no.jpg", False),
        ("User-agent: *\nDisallow: /same\nAllow: /same", "/same", True),
        ("User-agent: *\nDisallow: /\n\nUser-agent: Pentimento/1.0\nDisallow: /x", "/a.jpg", True),
        ("User-agent: pentimento\nDisallow: /\n\nUser-agent: *\nAllow: /", "/a.jpg", False),
        ("User-agent: other\nUser-agent: pentimento\nDisallow: /a", "/a.jpg", False),
        ("User-agent: pentimento\nDisallow: /a\nUser-agent: x\nAllow: /\nUser-agent: pentimento\nDisallow: /b",
         "/b", False),
        ("User-agent: other\nDisallow: /", "/a.jpg", True),
        ("user-agent:*\r\nDISALLOW : /a # not this\r\n", "/a.jpg", False),
        ("\ufeffUser-agent: *\nDisallow: /a", "/a.jpg", False),
        ("User-agent: *\nDisallow: /caf%C3%A9", "/café.jpg", False),
        ("User-agent: *\nDisallow: /%7ejoe", "/~joe/a.jpg", False),
        ("User-agent: *\nDisallow: /a%2Fb", "/a/b", True),
        ("Disallow: /", "/a.jpg", True),
        ("User-agent: *\nDisallow: /", "/robots.txt", True),
        ("<html>not a robots.txt: at all</html>", "/a.jpg", True),
    ],
)  # fmt: skip
def test_a_rule_is_read_as_the_standard_has_it(text: str, path: str, expected: bool) -> None:
    assert allowed(text, path) is expected


def test_the_time_between_two_requests_is_taken_from_our_group() -> None:
    text = b"User-agent: *\nCrawl-delay: 9\n\nUser-agent: pentimento\nCrawl-delay: 2.5\nDisallow: /x"
    assert rules(text, "pentimento").delay_s == 2.5
    assert rules(b"User-agent: *\nCrawl-delay: soon", "pentimento").delay_s == 0


def test_many_stars_cost_no_time_to_speak_of() -> None:
    text = "User-agent: *\nDisallow: /" + "*a" * 2_000 + "$"
    assert allowed(text, "/" + "a" * 4_000 + "b")


def test_bytes_that_are_no_text_and_a_file_without_end_are_read_all_the_same() -> None:
    assert rules(b"User-agent: *\nDisallow: /\xff\xfe\x00", "pentimento").allow(f"{HOST}/a.jpg")
    assert not rules(b"User-agent: *\nDisallow: /a\n" + b"# more\n" * 200_000, "pentimento").allow(f"{HOST}/a.jpg")


def test_no_robots_txt_allows_everything() -> None:
    assert EVERYTHING.allow(f"{HOST}/a.jpg?b=c")
