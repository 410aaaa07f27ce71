"""The generated documents: fresh, valid AsyncAPI 3.1, and true to the topology."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from services.core import topology
from services.core.events import EVENTS
from services.core.schemas import asyncapi, documents, json_schema, main, stale

DOCS = Path(__file__).parents[2] / "docs"
OFFICIAL = Path(__file__).with_name("asyncapi-3.1.0.schema.json")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))
    return loaded


def test_the_documents_in_the_repository_are_fresh() -> None:
    assert stale(DOCS) == [], "run `python -m services.core.schemas --out docs`"


def test_the_documents_are_the_same_on_every_run() -> None:
    assert documents() == documents()


def test_a_stale_or_superfluous_document_is_found_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    assert main(["--out", str(tmp_path), "--check"]) == 0
    (tmp_path / "asyncapi.yaml").write_text("asyncapi: 3.1.0\n")
    (tmp_path / "schemas" / "dev.pentimento.gone.v1.json").write_text("{}")
    assert stale(tmp_path) == ["asyncapi.yaml", "schemas/dev.pentimento.gone.v1.json"]
    assert main(["--out", str(tmp_path), "--check"]) == 1
    assert "is stale" in capsys.readouterr().err
    assert main(["--out", str(tmp_path)]) == 0
    assert stale(tmp_path) == []


def test_the_document_satisfies_the_official_schema_of_asyncapi(document: dict[str, Any]) -> None:
    assert document == asyncapi()
    official = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    errors = [
        f"{'/'.join(map(str, e.path))}: {e.message[:200]}" for e in Draft7Validator(official).iter_errors(document)
    ]
    assert errors == []


def test_the_official_schema_refuses_a_document_that_is_wrong(document: dict[str, Any]) -> None:
    official = Draft7Validator(json.loads(OFFICIAL.read_text(encoding="utf-8")))
    wrong = json.loads(json.dumps(document))
    wrong["channels"]["image-uploads"]["bindings"]["kafka"]["partitions"] = 0
    assert not official.is_valid(wrong)


def test_every_reference_in_the_document_resolves(document: dict[str, Any]) -> None:
    references = list(_references(document))
    assert len(references) > 40
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, f"{reference} leads nowhere"
            node = node[part]


def test_the_examples_in_the_document_match_its_own_payload_schemas(document: dict[str, Any]) -> None:
    for name, message in document["components"]["messages"].items():
        for part in ("payload", "headers"):
            schema = {**message[part], "components": document["components"]}
            for example in message["examples"]:
                Draft7Validator(schema).validate(example[part])
        assert message["examples"], f"{name} has no example"


def test_the_document_is_whole_and_agrees_with_the_topology(document: dict[str, Any]) -> None:
    assert set(document["channels"]) == set(topology.TOPICS)
    assert set(document["components"]["messages"]) == {event.__name__ for event in EVENTS}
    for topic in topology.TOPICS.values():
        kafka = document["channels"][topic.name]["bindings"]["kafka"]
        assert (kafka["topic"], kafka["partitions"], kafka["bindingVersion"]) == (topic.name, topic.partitions, "0.5.0")
        assert kafka["topicConfiguration"]["max.message.bytes"] == topic.max_message_bytes
        assert document["channels"][topic.name]["messages"], f"{topic.name} carries nothing"
    for group in topology.GROUPS.values():
        for name in group.reads:
            operation = document["operations"][f"{group.name}-receives-{name}"]
            assert operation["action"] == "receive"
            assert operation["bindings"]["kafka"]["groupId"]["enum"] == [group.consumer_group]
        for name in (*group.writes, topology.DEAD_LETTERS):
            assert document["operations"][f"{group.name}-sends-{name}"]["action"] == "send"


@pytest.mark.parametrize("event", EVENTS, ids=[event.__name__ for event in EVENTS])
def test_each_schema_is_a_valid_2020_12_schema_that_allows_unknown_fields(event: Any) -> None:
    schema = json_schema(event)
    Draft202012Validator.check_schema(schema)
    assert "additionalProperties" not in schema
    assert json.loads((DOCS / "schemas" / f"{event.ce_type}.json").read_text(encoding="utf-8")) == schema


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    if isinstance(node, list):
        return [found for value in node for found in _references(value)]
    return []
