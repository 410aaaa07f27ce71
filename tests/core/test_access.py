"""Who may do what, what nobody may give away, and what a provider's claims give."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.access import (
    ClaimRules,
    Grant,
    Person,
    Role,
    granted,
    is_subject,
    is_tenant,
    subject_of,
    tenants_of_words,
)

ACME, LABS = frozenset({"acme"}), frozenset({"labs"})
RULES = ClaimRules(
    "groups",
    {"trust": Role.MODERATOR, "leads": Role.LEAD, "ops": Role.ADMIN},
    {"trust": ("acme",), "leads": ("labs",), "ops": ("*",)},
)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["trust"], Grant(Role.MODERATOR, ACME)),
        (["trust", "leads", "other"], Grant(Role.LEAD, ACME | LABS)),
        (["leads", "ops"], Grant(Role.ADMIN, None)),
        ("trust", Grant(Role.MODERATOR, ACME)),
        (["other"], None), ([], None), (None, None), ({"trust": 1}, None), (7, None), (["TRUST"], None),
        ("trust,ops", None),
    ],
)  # fmt: skip
def test_claims_give_the_highest_role_and_all_tenants_or_nothing(groups: Any, expected: Grant | None) -> None:
    assert granted({"sub": "x", "groups": groups}, RULES) == expected


def test_a_role_without_a_tenant_sees_none() -> None:
    assert granted({"groups": ["a"]}, ClaimRules("groups", {"a": Role.ADMIN}, {})) == Grant(Role.ADMIN, frozenset())


def test_everybody_can_be_given_something() -> None:
    rules = ClaimRules("groups", {"*": Role.VIEWER, "a": Role.LEAD}, {"*": ("default",)})
    assert granted({}, rules) == Grant(Role.VIEWER, frozenset({"default"}))
    assert granted({"groups": ["a"]}, rules) == Grant(Role.LEAD, frozenset({"default"}))


@pytest.mark.parametrize(("verified", "role"), [(True, Role.ADMIN), (False, None), ("true", None), (None, None)])
def test_an_email_counts_only_if_it_is_verified(verified: object, role: Role | None) -> None:
    rules = ClaimRules("email", {"ada@example.com": Role.ADMIN}, {})
    found = granted({"email": "ada@example.com", "email_verified": verified}, rules)
    assert (found.role if found else None) == role


@pytest.mark.parametrize(
    ("giver", "role", "tenants", "may"),
    [
        (Grant(Role.ADMIN, None), Role.ADMIN, None, True),
        (Grant(Role.ADMIN, ACME), Role.ADMIN, ACME, True),
        (Grant(Role.ADMIN, ACME), Role.VIEWER, None, False),
        (Grant(Role.ADMIN, ACME), Role.VIEWER, ACME | LABS, False),
        (Grant(Role.LEAD, None), Role.ADMIN, ACME, False),
    ],
)
def test_nobody_gives_more_than_they_have(giver: Grant, role: Role, tenants: frozenset[str] | None, may: bool) -> None:
    assert Person("p", "P", giver.role, giver.tenants).may_grant(role, tenants) is may


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Grant(Role.LEAD, None), Grant(Role.VIEWER, ACME), Grant(Role.VIEWER, ACME)),
        (Grant(Role.VIEWER, ACME | LABS), Grant(Role.ADMIN, LABS), Grant(Role.VIEWER, LABS)),
        (Grant(Role.ADMIN, None), Grant(Role.ADMIN, None), Grant(Role.ADMIN, None)),
        (Grant(Role.ADMIN, ACME), Grant(Role.ADMIN, LABS), Grant(Role.ADMIN, frozenset())),
    ],
)
def test_two_grants_together_allow_what_both_do(one: Grant, other: Grant, both: Grant) -> None:
    assert one.within(other) == both
    assert other.within(one) == both


def test_the_same_name_at_two_providers_is_two_people() -> None:
    assert subject_of("https://a.example/realm", "ada") == "a.example/realm/ada"
    assert subject_of("https://a.example/", "ada") != subject_of("https://b.example/", "ada")
    for strange in ("x" * 255, "a\nb"):
        assert len(subject_of("https://a.example", strange)) <= 200
        assert subject_of("https://a.example", strange).isprintable()


@pytest.mark.parametrize("text", ["local", "web-token", "nobody", "token/1", "a/b", "", "a b", "-a", "x" * 101, "ä"])
def test_some_names_are_not_given_to_people(text: str) -> None:
    assert not is_subject(text)
    assert is_subject("ada@example.com")


def test_tenants_are_read_as_people_write_them() -> None:
    assert tenants_of_words([" acme", " labs", ""]) == ACME | LABS
    assert tenants_of_words(["acme", "*"]) is None
    assert tenants_of_words([""]) == frozenset()
    assert is_tenant("acme.eu-1")
    assert not is_tenant("a\x00")
