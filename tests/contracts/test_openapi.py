"""The HTTP API's document: valid, current, and the same manners everywhere.

For whoever adds a route below `/api/v1`: a summary or a docstring; a return type or `response_model`; lists as
`services.web.paging.Page` with `limit: Limit` and `cursor: Place`; what else can go wrong as `responses=problems(409)`
(the usual problems are declared by the app); a route that answers no JSON says so with `response_class` or `responses`.
Then `make docs`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from services.web import openapi
from services.web.problems import PROBLEMS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi.document()


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema behind a reference."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def answers(operation: dict[str, Any]) -> dict[str, Any]:
    """What an operation answers when all is well, by status."""
    return {status: said for status, said in operation["responses"].items() if status.startswith("2")}


def answered_json(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """The schema of a JSON answer; empty where there is none."""
    for said in answers(operation).values():
        if "application/json" in said.get("content", {}):
            return resolved(document, said["content"]["application/json"].get("schema", {}))
    return {}


def faults(document: dict[str, Any]) -> list[str]:
    """What an API should not be, one line each."""
    found = []
    for path, method, operation in openapi.operations(document):
        for fault in (
            *_unnamed(operation),
            *_unanswered(document, operation),
            *_undeclared(operation),
            *_oddly_paged(document, method, operation),
        ):
            found.append(f"{method.upper()} {path}: {fault}")
    return found


def _unnamed(operation: dict[str, Any]) -> list[str]:
    return [f"no {part}" for part in ("summary", "tags") if not operation.get(part)]


def _unanswered(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    found = []
    for status, said in answers(operation).items():
        if status == "204":
            continue
        content = said.get("content", {})
        if not content:
            found.append(f"{status} says nothing of its content")
        if "application/json" in content and not content["application/json"].get("schema"):
            found.append(f"{status} has no response model")
    return found


def _undeclared(operation: dict[str, Any]) -> list[str]:
    found = [f"problem {status} is not declared" for status in PROBLEMS if str(status) not in operation["responses"]]
    for status, said in operation["responses"].items():
        if status.startswith(("4", "5")) and "application/problem+json" not in said.get("content", {}):
            found.append(f"{status} is no application/problem+json: `responses=problems({status})`")
    return found


def _oddly_paged(document: dict[str, Any], method: str, operation: dict[str, Any]) -> list[str]:
    if method != "get":
        return []
    schema = answered_json(document, operation)
    asked = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
    paging, told = asked & {"limit", "cursor"}, set(schema.get("properties", {})) & {"next_cursor", "next"}
    if schema.get("type") == "array":
        return ["a list is an object with next_cursor and next (`paging.Page`)"]
    if (paging or told) and (len(paging), len(told)) != (2, 2):
        return [f"a list has limit, cursor, next_cursor and next (`paging`), this only {sorted(paging | told)}"]
    return []


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_has_the_same_manners(document: dict[str, Any]) -> None:
    assert len(list(openapi.operations(document))) >= 13
    assert faults(document) == []


def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in openapi.operations(document)]
    assert len(names) == len(set(names))


def test_bad_manners_are_noticed(document: dict[str, Any]) -> None:
    odd = {
        "operationId": "x",
        "parameters": [{"name": "limit", "in": "query"}],
        "responses": {"200": {"content": {"application/json": {"schema": {}}}}, "409": {"content": {}}},
    }
    listed = {
        "operationId": "y",
        "summary": "Things",
        "tags": ["x"],
        "responses": {"200": {"content": {"application/json": {"schema": {"type": "array"}}}}, "201": {}},
    }
    found = faults({**document, "paths": {"/api/v1/odd": {"get": odd}, "/api/v1/listed": {"get": listed}}})
    assert "GET /api/v1/odd: no summary" in found
    assert "GET /api/v1/odd: no tags" in found
    assert "GET /api/v1/odd: 200 has no response model" in found
    assert "GET /api/v1/odd: problem 429 is not declared" in found
    assert "GET /api/v1/odd: 409 is no application/problem+json: `responses=problems(409)`" in found
    assert any(fault.startswith("GET /api/v1/odd: a list has limit") for fault in found)
    assert "GET /api/v1/listed: a list is an object with next_cursor and next (`paging.Page`)" in found
    assert "GET /api/v1/listed: 201 says nothing of its content" in found


def test_the_file_is_current() -> None:
    assert openapi.main(["--check", "--out", str(ROOT / "docs" / "openapi.json")]) == 0, "run `make docs`"


def test_a_stale_file_is_found_and_mended(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    assert openapi.main(["--check", "--out", str(file)]) == 1
    assert openapi.main(["--out", str(file)]) == 0
    assert openapi.main(["--check", "--out", str(file)]) == 0
