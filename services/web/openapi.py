"""The OpenAPI document: what the app serves, and `docs/openapi.json`.

In: the app. Out: the document, with a summary and a tag for every route: where a route names none, the first line of
its docstring, and the first word of its path.

    python -m services.web.openapi            writes docs/openapi.json
    python -m services.web.openapi --check    exit 1 if the file is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from fastapi import FastAPI

from services.web.problems import PROBLEM_SCHEMA, ProblemShown

PREFIX = "/api/v1/"


def describe(app: FastAPI) -> None:
    """Has the app serve the document as it is made here."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = plain()  # keeps it in the app
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            schemas[PROBLEM_SCHEMA] = ProblemShown.model_json_schema()
            for path, _, operation in operations(made):
                _name(path, operation)
        return app.openapi_schema or {}

    app.openapi = described  # type: ignore[method-assign]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of everything in a document."""
    for path, methods in document["paths"].items():
        yield from ((path, method, operation) for method, operation in methods.items())


def _name(path: str, operation: dict[str, Any]) -> None:
    """A tag and a summary. One that FastAPI made of the function's name says nothing: the docstring's goes before."""
    operation.setdefault("tags", [path.removeprefix(PREFIX).partition("/")[0]])
    made = operation.get("summary", "").lower().replace(" ", "_")
    if operation["operationId"].startswith(f"{made}_api_v1_"):
        said = operation.get("description", "").strip().splitlines()
        operation.pop("summary", None)
        if said:
            operation["summary"] = said[0].rstrip(".")


def document() -> dict[str, Any]:
    """The document of the app as it is."""
    return _app().openapi()


def _app() -> FastAPI:
    """The app without anything behind it: routes are only looked at."""
    from services.settings import TelemetrySettings
    from services.telemetry import open_telemetry
    from services.web.app import create_app
    from services.web.parts import Options, Parts

    nothing = cast(Any, None)
    parts = Parts(
        database=nothing,
        verdicts=nothing,
        objects=nothing,
        sender=nothing,
        reader=nothing,
        telemetry=open_telemetry(TelemetrySettings(), "pentimento-docs"),
        now=lambda: datetime.now(UTC),
    )
    return create_app(parts, Options(source="/docs", max_bytes=1, max_pixels=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes or checks the file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m services.web.openapi", description="Write the OpenAPI document.")
    parser.add_argument("--out", type=Path, default=Path("docs/openapi.json"), help="the file")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is stale")
    chosen = parser.parse_args(arguments)
    made = json.dumps(document(), indent=1, ensure_ascii=False) + "\n"
    fresh = chosen.out.is_file() and chosen.out.read_text(encoding="utf-8") == made
    if chosen.check:
        if not fresh:
            print(f"{chosen.out} is stale: run `make docs`", file=sys.stderr)
        return 0 if fresh else 1
    if not fresh:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(made, encoding="utf-8")
        print(f"wrote {chosen.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
