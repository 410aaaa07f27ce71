"""Groups, sides of the split, and the choice of a dataset version."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.learn.samples import (
    Caps,
    Group,
    Kind,
    Labelled,
    Sample,
    Source,
    Split,
    chosen,
    digest_of,
    group_named,
    merged,
    sampled,
    split_of,
    version_name,
)
from tests.clients.examples import sha256_of, stored

TRAIN = Group("g-train", "train", 1)


def labelled(word: str, *, kind: Kind = "spg", source: Source = "machine", annotator: str = "pair/1") -> Labelled:
    return Labelled("acme", stored(word), f"masks/{word}.png", sha256_of("original"), kind, 0.1, 0.9, source, annotator)


def sample(word: str, *, split: Split = "train", kind: Kind = "spg", source: Source = "machine") -> Sample:
    return sampled(labelled(word, kind=kind, source=source), Group("g", split, 1))


def test_of_many_groups_a_tenth_is_held_out_twice() -> None:
    sides = Counter(split_of(group_named(str(number))) for number in range(5000))
    assert 0.08 < sides["validation"] / 5000 < 0.12
    assert 0.08 < sides["test"] / 5000 < 0.12


def test_groups_that_turn_out_to_be_one_keep_the_side_of_the_oldest() -> None:
    same, other = Group("g-same", "train", 5), Group("g-other", "test", 9)
    found = merged([other, TRAIN, same])
    assert (found.into, found.absorbed, found.set_aside) == (TRAIN, (same, other), (other,))
    assert merged([TRAIN]).absorbed == ()


@given(st.permutations(["train", "train", "test", "validation"]))
def test_whatever_groups_meet_the_oldest_is_never_set_aside(sides: list[Split]) -> None:
    groups = [Group(str(age), side, age) for age, side in enumerate(sides)]
    found = merged(groups)
    assert found.into == groups[0]
    assert all(group.split != groups[0].split for group in found.set_aside)


def test_a_samples_id_is_of_everything_that_a_network_can_see() -> None:
    first = sample("one")
    assert sample("one") == first
    assert sample("two").id != first.id
    assert sample("one", split="test").id != first.id
    assert sampled(replace(labelled("one"), mask_key="masks/other.png"), TRAIN).id != first.id


def test_of_one_picture_the_moderators_word_counts_and_else_the_last_one() -> None:
    first, second = sample("one"), sampled(labelled("one", annotator="pair/2"), TRAIN)
    said = sample("one", source="moderator", kind="authentic")
    assert chosen([first, second], Caps()) == [second]
    assert chosen([said, first, second], Caps()) == [said]
    assert chosen([first, replace(second, set_aside="related to another group")], Caps()) == [first]


def test_caps_hold_for_the_training_side_only() -> None:
    many = [sample(f"forged {number}") for number in range(20)]
    pasted = [sample(f"pasted {number}", kind="sdg") for number in range(5)]
    clean = [sample(f"clean {number}", kind="authentic") for number in range(5)]
    held_out = [sample(f"held out {number}", split="test") for number in range(20)]
    kinds = Counter(
        each.of.kind for each in chosen([*many, *pasted, *clean], Caps(per_class=6)) if each.of.kind != "authentic"
    )
    assert kinds.total() == 6
    by_kind = Counter(each.of.kind for each in chosen([*many, *pasted, *clean, *held_out], Caps(per_kind=3)))
    assert by_kind == {"spg": 3 + 20, "sdg": 3, "authentic": 3}


def test_a_choice_and_its_name_do_not_depend_on_the_order() -> None:
    few = [sample(word) for word in "abcdef"]
    assert chosen(few, Caps(per_kind=3)) == chosen(few[::-1], Caps(per_kind=3))
    assert digest_of(few) == digest_of(few[::-1]) != digest_of(few[:5])
    assert version_name(digest_of(few)) == f"ds-{digest_of(few)[:12]}"


@pytest.mark.parametrize("source", ["machine", "moderator"])
def test_facts_are_json_values(source: Source) -> None:
    facts = sample("one", source=source).facts()
    assert {type(value) for value in facts.values()} <= {str, int, float}
