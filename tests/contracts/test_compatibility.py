"""The compatibility gate: today's schemas against the frozen ones of the last release.

`frozen/<ce_type>.json` is what producers and consumers out there were built against. Within a version of an event a
field may be added as optional and a limit may be widened; anything else breaks somebody and needs a new `.v2` type.
After a release the frozen copies are replaced by `docs/schemas/`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.core.envelope import TYPES
from services.core.schemas import json_schema

FROZEN = Path(__file__).with_name("frozen")
UPPER_LIMITS = ("maximum", "maxLength", "maxItems", "exclusiveMaximum")
LOWER_LIMITS = ("minimum", "minLength", "minItems", "exclusiveMinimum")
FIXED = ("type", "pattern", "format", "const", "contentEncoding")

Schema = dict[str, Any]


def breaks(frozen: Schema, current: Schema) -> list[str]:
    """Every way in which `current` refuses what `frozen` allowed, or no longer promises what it promised."""
    return list(_breaks(frozen, current, frozen, current, "value"))


def _breaks(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    for word in FIXED:
        if word in new and new.get(word) != old.get(word):
            yield f"{at}: {word} was {old.get(word)!r}, is {new[word]!r}"
        elif word in old and word not in new:
            yield f"{at}: {word} {old[word]!r} is gone"
    for word in UPPER_LIMITS:
        if word in new and new[word] < old.get(word, float("inf")):
            yield f"{at}: {word} fell from {old.get(word)} to {new[word]}"
    for word in LOWER_LIMITS:
        if word in new and new[word] > old.get(word, float("-inf")):
            yield f"{at}: {word} rose from {old.get(word)} to {new[word]}"
    if "enum" in new and not set(old.get("enum", [object()])) <= set(new["enum"]):
        yield f"{at}: choices were taken away"
    yield from _broken_object(old, new, old_root, new_root, at)
    yield from _broken_parts(old, new, old_root, new_root, at)


def _broken_object(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> Iterator[str]:
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        yield f"{at}.{name}: became required"
    for name in sorted(set(old.get("required", [])) - set(new.get("required", []))):
        yield f"{at}.{name}: is no longer promised"
    for name, schema in old.get("properties", {}).items():
        if name not in new.get("properties", {}):
            yield f"{at}.{name}: was removed"
        else:
            yield from _breaks(schema, new["properties"][name], old_root, new_root, f"{at}.{name}")
    if new.get("additionalProperties") is False and old.get("additionalProperties") is not False:
        yield f"{at}: unknown fields became forbidden"


def _broken_parts(old: Schema, new: Schema, old_root: Schema, new_root: Schema, at: str) -> Iterator[str]:
    for word in ("items", "additionalProperties"):
        if isinstance(old.get(word), dict) and isinstance(new.get(word), dict):
            yield from _breaks(old[word], new[word], old_root, new_root, f"{at}[]")
        elif isinstance(new.get(word), dict):
            yield f"{at}: {word} were free and are limited now"
    for position, (before, after) in enumerate(
        zip(old.get("prefixItems", []), new.get("prefixItems", []), strict=False)
    ):
        yield from _breaks(before, after, old_root, new_root, f"{at}[{position}]")
    for word in ("anyOf", "oneOf"):
        for choice in old.get(word, []):
            if not any(not list(_breaks(choice, other, old_root, new_root, at)) for other in new.get(word, [])):
                yield f"{at}: a choice of {word} was taken away or narrowed"


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = {
            **root["$defs"][schema["$ref"].removeprefix("#/$defs/")],
            **{k: v for k, v in schema.items() if k != "$ref"},
        }
    return schema


# -- the gate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FROZEN.glob("*.json")), ids=lambda path: path.stem)
def test_no_contract_breaks_whom_the_last_release_served(path: Path) -> None:
    assert path.stem in TYPES, f"{path.stem} is gone: a released event may not disappear"
    assert breaks(json.loads(path.read_text(encoding="utf-8")), json_schema(TYPES[path.stem])) == []


def test_every_event_has_a_frozen_schema() -> None:
    assert {path.stem for path in FROZEN.glob("*.json")} == set(TYPES)


# -- the gate itself can fail --------------------------------------------------------------------------------------

VERDICT = json_schema(TYPES["dev.pentimento.verdict.reached.v1"])


def _add_required(schema: Schema) -> None:
    schema["properties"]["colour"] = {"type": "string"}
    schema["required"].append("colour")


def _drop_promise(schema: Schema) -> None:
    schema["required"].remove("decision")


def _remove_field(schema: Schema) -> None:
    del schema["properties"]["mask"]


def _retype(schema: Schema) -> None:
    schema["$defs"]["Candidate"]["properties"]["distance"]["type"] = "number"


def _lower_a_limit(schema: Schema) -> None:
    schema["properties"]["upload_id"]["maxLength"] = 20


def _take_a_choice_away(schema: Schema) -> None:
    schema["$defs"]["Path"]["enum"].remove("reused")


def _forbid_null(schema: Schema) -> None:
    schema["properties"]["score"]["anyOf"].pop()


def _narrow_inside_a_choice(schema: Schema) -> None:
    schema["properties"]["score"]["anyOf"][0]["maximum"] = 0.5


def _forbid_unknown(schema: Schema) -> None:
    schema["$defs"]["Mask"]["additionalProperties"] = False


@pytest.mark.parametrize(
    "change",
    [
        _add_required,
        _drop_promise,
        _remove_field,
        _retype,
        _lower_a_limit,
        _take_a_choice_away,
        _forbid_null,
        _narrow_inside_a_choice,
        _forbid_unknown,
    ],
)
def test_the_gate_sees_a_breaking_change(change: Callable[[Schema], None]) -> None:
    changed = copy.deepcopy(VERDICT)
    change(changed)
    assert breaks(VERDICT, changed)


def test_the_gate_lets_a_new_optional_field_a_new_choice_and_a_wider_limit_pass() -> None:
    changed = copy.deepcopy(VERDICT)
    changed["properties"]["colour"] = {"type": "string"}
    changed["properties"]["upload_id"]["maxLength"] = 400
    changed["$defs"]["Path"]["enum"].append("frequency")
    assert breaks(VERDICT, changed) == []
