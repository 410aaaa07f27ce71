"""Who may import whom, read from the sources themselves.

    core  <-  clients  <-  stream, web  <-  local, worker, cli          networks  <-  handlers  <-  package

`services` never imports torch, `model_archive` or `trainer`; only the command line does, and only inside functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("services", "model_archive", "trainer")
HEAVY = ("torch", "torchvision", "torchserve", "ts", "model_archive", "trainer")

# Modules that belong to no layer folder, and what each may import of ours besides its own layer's.
PLAIN = (
    "services.settings", "services.opening", "services.telemetry", "services.tracing", "services.metrics",
    "services.health",
)  # fmt: skip

MAY: dict[str, tuple[str, ...]] = {
    "services.core": ("services.core",),
    "services.settings": ("services.core",),
    "services.settings_docs": ("services.settings",),
    "services.opening": ("services.core", "services.clients", "services.settings"),
    "services.metrics": (),
    "services.tracing": ("services.core",),
    "services.telemetry": (
        "services.core",
        "services.clients",
        "services.settings",
        "services.tracing",
        "services.metrics",
    ),
    "services.health": (),
    "services.clients": ("services.core", "services.clients"),
    "services.stream": ("services.core", "services.clients", "services.stream", *PLAIN),
    "services.web.__main__": ("services",),  # wires the web process
    "services.webhooks.__main__": ("services",),  # wires the senders' own process
    "services.webhooks": ("services.core", "services.clients", "services.webhooks", *PLAIN),
    "services.web": ("services.core", "services.clients", "services.web", "services.webhooks.desk", *PLAIN),
    "services.local": ("services",),
    "services": ("services",),  # worker, cli and whatever else wires things together
    "model_archive.networks": ("model_archive.networks", "services.core"),
    "model_archive.handlers": (
        "model_archive.networks",
        "model_archive.handlers",
        "model_archive.weights",
        "model_archive.preprocess",
        "services.core",
    ),
    "model_archive": ("model_archive", "services.core"),
    # Commands of `pentimento` under the trainer's name.
    "trainer.annotate.__main__": ("services.cli",),
    "trainer.samples.__main__": ("services.cli",),
    "trainer.loop.__main__": ("services.cli",),
    "trainer": ("trainer", "model_archive", "services.core", "services.clients"),
}
"""For the longest matching package: the prefixes of ours that it may import."""


@dataclass(frozen=True)
class Import:
    """One import statement. `lazy`: runs only when a function is called; `typing`: only a type checker sees it."""

    of: str
    by: str
    line: int
    lazy: bool
    typing: bool

    def __str__(self) -> str:
        return f"{self.by.replace('.', '/')}.py:{self.line} imports {self.of}"


def modules() -> list[tuple[str, Path]]:
    """Every module of ours, by its dotted name."""
    found = []
    for top in TOP:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(parts[:-1] if parts[-1] == "__init__" else parts), path))
    return found


def imports(name: str, source: str, *, is_package: bool = False) -> Iterator[Import]:
    """Every import in a module's source, with relative ones made absolute."""

    def walk(node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            checked = typing or (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test))
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, name, child.lineno, lazy, typing) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = _absolute(name, child, is_package)
                yield from (Import(f"{base}.{alias.name}", name, child.lineno, lazy, typing) for alias in child.names)
            yield from walk(child, inside, checked)

    yield from walk(ast.parse(source), False, False)


def _absolute(name: str, node: ast.ImportFrom, is_package: bool) -> str:
    if not node.level:
        return node.module or ""
    parents = name.split(".")[: len(name.split(".")) - node.level + (1 if is_package else 0)]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _below(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


def forbidden(found: Import) -> bool:
    """Whether the rules above forbid an import."""
    owner = max((package for package in MAY if _below(found.by, (package,))), key=len)
    if _below(found.of, ("services",)):
        return not _below(found.of, MAY[owner])
    if found.by.startswith("services") and _below(found.of, HEAVY):
        return not (_below(found.by, ("services.cli",)) and (found.lazy or found.typing))
    return _below(found.of, ("model_archive", "trainer")) and not _below(found.of, MAY[owner])


@pytest.mark.parametrize(("name", "path"), modules(), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_its_layer_may(name: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    found = imports(name, source, is_package=path.name == "__init__.py")
    assert [str(each) for each in found if forbidden(each)] == []


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("services.core.policy", "from services.clients import ledger"),
        ("services.core.policy", "import services.settings"),
        ("services.clients.cases", "from services.stream.stage import run"),
        ("services.stream.judge", "def f():\n    import torch"),
        ("services.web.app", "from services.local import kafka"),
        ("services.web.app", "from ..local import kafka"),
        ("services.cli.offline", "import torch"),
        ("services.worker", "def f():\n    from model_archive.handlers import analysis"),
        ("model_archive.networks.difference", "from model_archive.handlers import analysis"),
        ("model_archive.handlers.constrained", "from services.clients import objects"),
    ],
)
def test_the_rules_see_a_forbidden_import(by: str, source: str) -> None:
    assert any(forbidden(found) for found in imports(by, source))


@pytest.mark.parametrize(
    ("by", "source"),
    [
        ("services.cli.offline", "def mask():\n    from model_archive.handlers import analysis"),
        ("services.stream.judge", "from services.clients.models import Models\nfrom services.core import events"),
        ("trainer.annotate", "from model_archive.networks import difference\nimport torch"),
    ],
)
def test_the_rules_let_an_allowed_import_pass(by: str, source: str) -> None:
    assert not any(forbidden(found) for found in imports(by, source))


# Pure means: no I/O, no clock, no environment, no randomness, no async, no logging.
IMPURE = (
    "os",
    "socket",
    "subprocess",
    "random",
    "secrets",
    "time",
    "asyncio",
    "logging",
    "structlog",
    "httpx",
    "psycopg",
)
TOOLS = ("services.core.schemas",)  # a command that writes documents; imported by no service


@pytest.mark.parametrize(
    ("name", "path"), [pair for pair in modules() if pair[0].startswith("services.core") and pair[0] not in TOOLS]
)
def test_core_stays_pure(name: str, path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert [str(each) for each in imports(name, source) if _below(each.of, IMPURE)] == []
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(ast.parse(source)))
